"""What of a run was sent to W&B, and under which id: kept in the run's directory, across requeues."""

import contextlib
import json
import os
import secrets
import socket
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vqdist.foundation.atomic_files import write_atomic


class SentSteps:
    """The run's id and what of it was sent, in `wandb/tracking.json`.

    A step counts as sent before it is sent: a kill in between loses it rather than sending it twice,
    and the sync script fills in what was lost.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "tracking.json"
        self._last: tuple[str, int] | None = None
        self.run_id = find_run_id(folder) or new_run_id(os.environ)
        self.sent: dict[str, int] = {}
        self.job_ids: list[str] = []
        self.start: dict[str, Any] = {}
        self.writer: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            state = json.loads(self._path.read_text())
            self.run_id, self.sent = str(state["id"]), dict(state["sent"])
            self.job_ids, self.start = list(state["job_ids"]), dict(state["start"])
            self.writer = dict(state["writer"])

    def own(self) -> None:
        """Note this process as the one that writes now."""
        self.writer = {"host": socket.gethostname(), "pid": os.getpid()}
        self.save()

    def writer_is_alive(self) -> bool | None:
        """Tell whether the process that wrote last still runs; None if that was on another machine."""
        if self.writer.get("host") != socket.gethostname():
            return None
        try:
            os.kill(int(self.writer["pid"]), 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True

    def claim(self, stream: str, step: int) -> bool:
        """Note the step of a stream as sent; False if it, or a later one, was sent before."""
        before = self.sent.get(stream, -1)
        if step <= before:
            return False
        self._last = (stream, before)
        self.sent[stream] = step
        self.save()
        return True

    def release(self) -> None:
        """Take the last claim back, because the call that was to send it failed."""
        if self._last is not None:
            stream, before = self._last
            self.sent[stream] = before
            self._last = None

    def save(self) -> None:
        """Write the file whole; a full disk is left to the log of what was not written."""
        state = {
            "format_version": 1,
            "id": self.run_id,
            "start": self.start,
            "job_ids": self.job_ids,
            "writer": self.writer,
            "sent": self.sent,
        }
        with contextlib.suppress(OSError):
            write_atomic(self._path, json.dumps(state).encode())


def find_run_id(folder: Path) -> str | None:
    """Return the id under which earlier starts have written, where a full disk left no tracking.json."""
    pieces = sorted(folder.glob("*run-*/run-*.wandb"))
    return pieces[0].stem.removeprefix("run-") if pieces else None


def new_run_id(environ: Mapping[str, str]) -> str:
    """Return an id for a new run; a W&B sweep has chosen it already."""
    if "WANDB_SWEEP_ID" in environ and environ.get("WANDB_RUN_ID"):
        return environ["WANDB_RUN_ID"]
    return "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(8))
