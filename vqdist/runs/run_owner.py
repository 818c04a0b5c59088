"""owner.json of a run directory: the process that may write there."""

import json
import os
import socket
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True)
class RunOwner:
    """The contents of owner.json.

    Attributes:
        token: identifies the attempt, the same on all of its ranks.
        host: name of the machine of rank 0.
        pid: number of the process of rank 0 on its machine.
        process_start: of that process, from `find_process_start`; None if an earlier version wrote the file.
        slurm_job: number of the Slurm job, None without Slurm.
        slurm_restart: how often Slurm had restarted the job, None without Slurm.
    """

    token: str
    host: str = "an unknown host"
    pid: int = 0
    process_start: str | None = None
    slurm_job: str | None = None
    slurm_restart: str | None = None

    @classmethod
    def of_this_process(cls, token: str) -> Self:
        """Describe this process as an owner."""
        return cls(
            token,
            host=socket.gethostname(),
            pid=os.getpid(),
            process_start=find_process_start(os.getpid()),
            slurm_job=os.environ.get("SLURM_JOB_ID"),
            slurm_restart=os.environ.get("SLURM_RESTART_COUNT"),
        )

    @classmethod
    def read(cls, file: Path) -> Self:
        """Read owner.json.

        Raises:
            OSError: it cannot be read.
            ValueError: it is damaged.
        """
        values = json.loads(file.read_text())
        if not isinstance(values, dict) or "token" not in values:
            raise ValueError("no token")
        return cls(**{name: values[name] for name in cls.__dataclass_fields__ if name in values})

    def to_json(self) -> bytes:
        """Return the contents of owner.json, a line."""
        return f"{json.dumps(asdict(self))}\n".encode()

    def __str__(self) -> str:
        job = f" (Slurm job {self.slurm_job})" if self.slurm_job else ""
        return f"process {self.pid} on {self.host}{job}"

    def is_here(self) -> bool:
        """Return whether the owner is, or was, a process of this machine."""
        return self.host == socket.gethostname()

    def runs_here(self) -> bool:
        """Return whether the process runs on this machine and is not this one."""
        is_other = self.is_here() and self.pid != os.getpid() and self.process_start is not None
        return is_other and find_process_start(self.pid) == self.process_start


def find_process_start(pid: int) -> str | None:
    """Return a text that differs between processes that have had the same number; None if no such process runs."""
    if Path("/proc/self/stat").exists():
        try:
            state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (OSError, ValueError):
            return None
        return None if state in {"Z", "X"} else fields[18]  # ticks since boot; a zombie has ended
    shown = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return shown.stdout.strip() or None
