"""Log a training run to W&B without waiting for it: append events to a file that process.py follows."""

import os
import secrets
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import vqdist
from vqdist.config.schema import TrackingSection
from vqdist.foundation.progress import print_message
from vqdist.runs.run_dir import JsonLines
from vqdist.tracking.server import propose_sync

MAX_BINS = 256
FINISH_LIMIT_S = {"finished": 60.0, "stopped": 10.0, "failed": 10.0}  # a scheduler waits little after a signal


class Tracker:
    """Send pictures, histograms, artifacts and the end of a run to W&B, or nothing without a process.

    Lines of metrics.jsonl are sent without a call. No method raises, and only `finish` waits.
    """

    def __init__(self, run_dir: Path, command: Sequence[str | Path] | None = None) -> None:
        ...

    def log_pictures(self, step: int, pictures: Mapping[str, Path]) -> None:
        """Log PNG files (name -> path), which must stay where they are."""
        for name, path in pictures.items():
            stream = name if "/" in name else f"pictures/{name}"
            self._append("picture", stream=stream, step=step, path=str(path.resolve()))

    def log_histogram(self, step: int, name: str, counts: Sequence[float]) -> None:
        """Log how often each of the K codes was used; above 256 codes, neighbouring codes share a bin."""
        width = -(-len(counts) // MAX_BINS)
        edges = [*range(0, len(counts), width), len(counts)]
        sums = np.add.reduceat(counts, edges[:-1]).tolist()
        self._append("histogram", stream=name, step=step, sums=sums, edges=edges)

    def log_artifact(self, kind: str, name: str, *, path: Path, metadata: Mapping[str, Any], is_input: bool) -> None:
        """Log a file or folder that the run has made or, with `is_input`, uses; equal names link runs."""
        self._append("artifact", type=kind, name=name, path=str(path.resolve()), metadata=metadata, is_input=is_input)

    def log_row(self, row: Mapping[str, float]) -> None:
        """Log numbers that are not in metrics.jsonl: chart -> number, with `global_step`."""
        self._append("row", row=row)

    def finish(self, state: str, exit_code: int, *, limit_s: float | None = None) -> None:
        """End the run in W&B and wait a bounded time (60 s if finished, 10 s if stopped or failed) until it is sent."""
        if self._events is None or self._process is None:
            return
        self._append("finish", state=state, exit_code=exit_code)
        try:
            self._events.sync()
            self._process.wait(FINISH_LIMIT_S[state] if limit_s is None else limit_s)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
        self._events.close()
        self._events = None
        if self._process.wait() != 0:
            print_message(f"W&B has not received everything; `{propose_sync(self._run_dir)}` sends the rest")

    def _append(self, verb: str, **fields: Any) -> None:
        try:
            if self._events is not None:
                self._events.append({"do": verb, **fields})
        except (TypeError, ValueError) as error:
            print_message(f"W&B: {verb} not logged ({error}); training continues")


def start_tracker(
    run_dir: Path,
    settings: TrackingSection,
    *,
    run_name: str,
    config: Mapping[str, Any] | None,
    job_type: str,
    is_main: bool,
) -> Tracker:
    """Start the process that makes the W&B calls and return at once; W&B's files and state go to RUN/wandb.

    Args:
        settings: the tracking section, with the mode that `resolve_mode` returned.
        run_name: name in the dashboard.
        config: the resolved configuration; None to add to a run that has ended.
        job_type: kind of run, for example the task.
        is_main: False on ranks other than 0, where the tracker does nothing.
    """
    if not is_main or settings.mode == "disabled":
        return Tracker()
    start = {"run": settings.model_dump(exclude={"mode"}) | {"run_name": run_name, "job_type": job_type}}
    folder, root = run_dir.resolve() / "wandb", str(Path(vqdist.__file__).resolve().parents[1])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob("events-*.jsonl"):  # of attempts whose process was killed
            path.unlink(missing_ok=True)
        path = folder / f"events-{secrets.token_hex(4)}.jsonl"
        events = JsonLines(path, lambda: None)
        events.append({"mode": settings.mode, "run": placement, "config": config, "program": sys.argv[0]})
        with (folder / "tracking.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "vqdist.tracking.process", folder.parent, path, str(os.getpid())],
                env=os.environ | {"PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])},
                stdin=subprocess.DEVNULL,
                stdout=log,
                start_new_session=True,  # signals for training must not end the report of how training ended
            )
    except OSError as error:
        print_message(f"W&B: not started ({error}); training continues without it")
        return Tracker()
    return Tracker(events, process)
