"""Log a training run to W&B without waiting for it: append events to a file that a separate process follows."""

import hashlib
import json
import os
import secrets
import shlex
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vqdist.config.attributes import Attributes
from vqdist.config.schema import RunConfig
from vqdist.foundation.atomic_files import clear_leftovers
from vqdist.foundation.json_lines import JsonLinesFile
from vqdist.foundation.progress import print_message
from vqdist.runs.run_dir import RunDir

MAX_BINS = 256
FINISH_LIMIT_S = {"finished": 60.0, "stopped": 10.0, "failed": 10.0}  # a scheduler waits little after a signal
SYNC_SCRIPT = Path(__file__).parents[2] / "launch" / "wandb_sync.sh"  # not part of an installed wheel


class Tracker:
    """Send a run to W&B: metrics.jsonl, and what these methods log. No method raises, and only `finish` waits.

    Args:
        run_dir: the run's directory; the files of W&B go to its `wandb/`.
        config: the resolved configuration; None to send nothing, as on ranks other than 0.
        has_ended: add to a run that has ended; its configuration and state in W&B stay as they are.
        attributes: of the dataset, to show beside the configuration.
    """

    def __init__(
        self,
        run_dir: RunDir,
        config: RunConfig | None,
        *,
        has_ended: bool = False,
        attributes: Attributes | None = None,
    ) -> None:
        self._attributes = {name: found.to_json() for name, found in (attributes or {}).items()}
        self._run_dir, self._has_ended = RunDir(run_dir.path.resolve(), run_dir.token), has_ended
        self._sends_images = config is not None and config.tracking.images
        self.active = False
        if config is not None and config.tracking.mode != "disabled":
            try:
                self._start_process(config)
                self.active = True
            except OSError as error:
                print_message(f"W&B: not started: {error}")

    def _describe(self, config: RunConfig) -> dict[str, Any]:
        """Return the configuration and, if there are any, the attributes of the dataset."""
        values: dict[str, Any] = config.model_dump(mode="json")
        return values | ({"attributes": self._attributes} if self._attributes else {})

    def _start_process(self, config: RunConfig) -> None:
        folder = self._run_dir.wandb
        make_folder(folder, os.environ)
        if not self._has_ended:  # remove what killed processes left
            clear_leftovers(folder)
            for path in folder.glob("events-*.jsonl"):
                path.unlink()
        path = folder / f"events-{secrets.token_hex(4)}.jsonl"
        names = {
            "run_name": config.tracking.name or config.run_dir.name,
            "job_type": os.environ.get("WANDB_JOB_TYPE") or config.task,
        }
        start = {
            "mode": config.tracking.mode,
            "placement": config.tracking.model_dump(exclude={"mode", "images", "name"}) | names,
            "images": config.tracking.images,
            "config": None if self._has_ended else self._describe(config),
            "command": sys.argv,
            "token": self._run_dir.token,
        }
        path.write_text(json.dumps(start) + "\n")
        environ = {"WANDB_ERROR_REPORTING": "false", "WANDB_INIT_TIMEOUT": "30"}
        environ |= {"WANDB_DATA_DIR": f"{folder}/data", "WANDB_CACHE_DIR": f"{folder}/cache"}
        with (folder / "tracking.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "vqdist.tracking.process", self._run_dir.path, path, str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environ | os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
                # Unbuffered: an interpreter that exits aborts if a thread holds the lock of a buffer.
                bufsize=0,
                # Signals for training must not end the process before it has sent how training ended.
                start_new_session=True,
            )
        self._events = JsonLinesFile(path, lambda: None)
        threading.Thread(target=self._print_notices, daemon=True).start()

    def _print_notices(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as notices:
            for line in notices:
                print_message(line.decode().rstrip())

    def log_pictures(self, step: int, pictures: Mapping[str, Path]) -> None:
        """Log PNG files (name -> path), which must stay where they are; none if `tracking.images` is false."""
        if not self._sends_images:
            return
        for name, path in pictures.items():
            stream = name if "/" in name else f"pictures/{name}"
            self._append("picture", stream=stream, step=step, path=path)

    def log_histogram(self, step: int, name: str, counts: Sequence[float]) -> None:
        """Log how often each of K codes was used; above 256 codes, neighbouring codes share a bin."""
        width = -(-len(counts) // MAX_BINS)
        edges = [*range(0, len(counts), width), len(counts)]
        sums = np.add.reduceat(counts, edges[:-1]).tolist()
        self._append("histogram", stream=name, step=step, sums=sums, edges=edges)

    def log_artifact(
        self,
        kind: str,
        name: str,
        *,
        path: Path,
        metadata: Mapping[str, Any],
        is_input: bool,
        aliases: Sequence[str] = (),
    ) -> None:
        """Log a file or folder that the run has made or, with `is_input`, uses. Equal names and contents link runs."""
        self._append(
            "artifact", type=kind, name=name, path=path, metadata=metadata, is_input=is_input, aliases=list(aliases)
        )

    def log_row(self, row: Mapping[str, float]) -> None:
        """Log numbers that are not in metrics.jsonl: chart -> number, with `global_step`."""
        self._append("row", row=row)

    def log_table(self, step: int, name: str, rows: Sequence[Mapping[str, Any]], pictures: Sequence[Path]) -> None:
        """Log a table.

        Args:
            rows: column -> value, with the same columns in each row.
            pictures: a PNG file for each row, or none; left out if `tracking.images` is false.
        """
        paths = [str(path.resolve()) for path in pictures] if self._sends_images else []
        self._append("table", stream=name, step=step, rows=[dict(row) for row in rows], pictures=paths)

    def finish(self, state: str, exit_code: int) -> None:
        """End the run in W&B as finished, stopped or failed; wait until everything is sent, at most FINISH_LIMIT_S."""
        if not self.active:
            return
        self._append("finish", state=None if self._has_ended else state, exit_code=exit_code)
        self.active = False
        try:
            self._events.sync()
            self._process.wait(FINISH_LIMIT_S[state])
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
        self._events.close()
        if self._process.wait() != 0:
            print_message(f"W&B has not received everything; `{propose_sync(self._run_dir.path)}` sends the rest")

    def _append(self, verb: str, **fields: Any) -> None:
        try:
            if self.active:
                paths = {key: str(value.resolve()) for key, value in fields.items() if isinstance(value, Path)}
                self._events.append({"do": verb, **fields, **paths})
        except (OSError, TypeError, ValueError) as error:
            print_message(f"W&B: {verb} not logged: {error}")


def make_folder(folder: Path, environ: Mapping[str, str]) -> None:
    """Create RUN/wandb. With WANDB_DIR, it is a link to a folder of the run in there.

    The agent of a sweep sets WANDB_DIR to its working directory unless the user has set it; that is ignored.
    """
    root = environ.get("WANDB_DIR")
    is_of_agent = "WANDB_SWEEP_ID" in environ and root == os.getcwd()
    if root and not is_of_agent and not os.path.lexists(folder):
        digest = hashlib.sha256(str(folder).encode()).hexdigest()[:8]
        target = Path(root).absolute() / "wandb" / f"{folder.parent.name}-{digest}"
        target.mkdir(parents=True, exist_ok=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.symlink_to(target)
    folder.mkdir(parents=True, exist_ok=True)


def describe_offline(reason: str, run_dir: Path) -> str:
    """Return that a run is not online in W&B, why, and the command that sends it later."""
    return f"offline: {reason}; `{propose_sync(run_dir)}` sends the run later"


def propose_sync(run_dir: Path) -> str:
    """Return the command that sends the rest of a run: the script of the repository, or W&B's own if there is none."""
    run = shlex.quote(str(run_dir))
    if not SYNC_SCRIPT.is_file():
        return f"wandb sync --include-online {run}/wandb/*run-*"
    script = SYNC_SCRIPT.relative_to(Path.cwd()) if SYNC_SCRIPT.is_relative_to(Path.cwd()) else SYNC_SCRIPT
    return f"bash {shlex.quote(str(script))} {run}"
