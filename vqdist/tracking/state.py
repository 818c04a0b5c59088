"""The W&B state of a run, kept over all its attempts in RUN/wandb/tracking.json."""

import json
import os
import secrets
import socket
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vqdist.foundation.atomic_files import write_atomic_json


@dataclass
class TrackingState:
    """The id and the placement of a run in W&B, whether it may send pictures, and the last step sent of each stream."""

    id: str
    start: dict[str, Any] = field(default_factory=dict)  # project, entity, group, tags, run_name, job_type
    job_ids: list[str] = field(default_factory=list)  # of Slurm
    writer: dict[str, Any] = field(default_factory=dict)  # host and pid of the process that saved last
    images: bool = True  # tracking.images
    sent: dict[str, int] = field(default_factory=dict)  # train, validate or a chart -> step
    format_version: int = 1

    @classmethod
    def load(cls, folder: Path) -> "TrackingState":
        """Read tracking.json of RUN/wandb; without it, the id is that of the .wandb files, WANDB_RUN_ID, or new."""
        with suppress(OSError, ValueError, TypeError):
            return cls(**json.loads((folder / "tracking.json").read_text()))
        for path in folder.glob("*run-*/run-*.wandb"):
            return cls(path.stem.removeprefix("run-"))
        return cls(os.environ.get("WANDB_RUN_ID") or secrets.token_hex(4))

    def save(self, folder: Path) -> None:
        """Replace tracking.json. A full disk is no error: sync.py reads from the .wandb files what W&B lacks."""
        self.writer = {"host": socket.gethostname(), "pid": os.getpid()}
        with suppress(OSError):
            write_atomic_json(folder / "tracking.json", asdict(self), durable=False)

    def claim(self, stream: str, step: int) -> bool:
        """Count a step as sent; return False if it, or a later step of the stream, was sent before."""
        if step <= self.sent.get(stream, -1):
            return False
        self.sent[stream] = step
        return True

    def is_writer_alive(self) -> bool | None:
        """Return whether the process that saved last still runs, None if it ran on another host."""
        if self.writer.get("host") != socket.gethostname():
            return None
        try:
            os.kill(self.writer["pid"], 0)
        except OSError as error:
            return isinstance(error, PermissionError)
        return True
