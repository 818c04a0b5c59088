"""A run as seen in W&B, from the side of the training process.

Training never waits for W&B and never imports it: rank 0 hands small messages to a thread, the thread
writes them to a process of its own (reporter.py), and that process alone talks to W&B. A server that
hangs, a dead core process or a full disk end there; what does not fit into the queue is dropped and
counted, and `launch/wandb_sync.sh` fills it in from metrics.jsonl.
"""

import contextlib
import functools
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

import vqdist
from vqdist.foundation.errors import ConfigError
from vqdist.foundation.progress import print_message
from vqdist.tracking.server import propose_sync

Mode = Literal["auto", "online", "offline", "disabled"]
State = Literal["finished", "stopped", "failed"]

QUEUE_SIZE = 10_000
MAX_BINS = 256
# How long the end of a run may wait for W&B. After a signal the scheduler will not wait long either.
FINISH_LIMIT_S = {"finished": 60.0, "stopped": 10.0, "failed": 10.0}
_MODES = {"auto": "auto", "online": "online", "run": "online", "offline": "offline", "dryrun": "offline"}
_MODES["disabled"] = "disabled"


class TrackingSettings(Protocol):
    """The part of the configuration that tracking reads."""

    @property
    def mode(self) -> str: ...
    @property
    def project(self) -> str: ...
    @property
    def entity(self) -> str | None: ...
    @property
    def group(self) -> str | None: ...
    @property
    def tags(self) -> Sequence[str]: ...


def resolve_mode(flag: str | None, environ: Mapping[str, str], file: str | None) -> Mode:
    """Return the mode that was asked for: a flag beats WANDB_MODE, WANDB_MODE beats the file.

    Args:
        flag: the value of `--tracking.mode`; None where it was not given.
        environ: the environment; WANDB_MODE also knows W&B's own `dryrun` and `run`.
        file: `tracking.mode` of the configuration file; None where it is not there.

    Raises:
        ConfigError: the value that wins is no mode.
    """
    env = "disabled" if environ.get("WANDB_DISABLED", "").lower() in {"true", "1"} else None
    env = env or environ.get("WANDB_MODE") or None
    for where, value in (("tracking.mode", flag), ("WANDB_MODE", env), ("tracking.mode", file)):
        if value is None:
            continue
        if value not in _MODES:
            raise ConfigError.of(where, repr(value), "auto, online, offline or disabled")
        return _MODES[value]  # type: ignore[return-value]
    return "auto"


def bin_usage(counts: Iterable[float]) -> tuple[list[float], list[float]]:
    """Return (sums, edges) of a histogram over the code index, neighbouring codes together above 256 codes.

    Args:
        counts: how often each of the K codes was used.
    """
    usage = np.asarray(counts if hasattr(counts, "__len__") else list(counts), dtype=np.float64)
    width = max(1, -(-len(usage) // MAX_BINS))
    starts = np.arange(0, len(usage), width)
    edges = [*starts.tolist(), len(usage)]
    return np.add.reduceat(usage, starts).tolist(), [float(edge) for edge in edges]


class Reporter:
    """The process that talks to W&B, and the bounded way to it.

    Args:
        run_dir: the run's directory; W&B's own files and the reporter's log go to its `wandb/`.
        start: what reporter.py needs to know to start the run in W&B.

    Raises:
        OSError: the folder cannot be written or the process not be started.
    """

    def __init__(self, run_dir: Path, start: Mapping[str, Any]) -> None:
        self.dropped = 0
        self._queue: queue.Queue[str | None] = queue.Queue(QUEUE_SIZE)
        folder = run_dir / "wandb"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "reporter.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "vqdist.tracking.reporter", str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=build_environment(folder),
                # Unbuffered: a buffer's lock, held by a blocked thread, would abort an interpreter that ends.
                bufsize=0,
                # Signals meant for training must not end the report of how it ended.
                start_new_session=True,
            )
        for work in (self._write, self._relay_notices):
            threading.Thread(target=work, name=f"wandb{work.__name__}", daemon=True).start()
        self.send({"do": "start", "run_dir": str(run_dir.resolve()), "program": sys.argv[0], **start})

    def send(self, message: Mapping[str, Any], *, patience_s: float = 0.0) -> None:
        """Queue a message; it is counted as dropped if the queue stays full for `patience_s`."""
        try:
            self._queue.put(to_json(message), block=patience_s > 0, timeout=patience_s)
        except queue.Full:
            self.dropped += 1

    def close(self, last: Mapping[str, Any], limit_s: float) -> bool:
        """Send a last message and wait at most `limit_s` for the process to end, then kill it.

        Returns:
            whether everything was sent and the process ended by itself and well.
        """
        deadline_s = time.monotonic() + limit_s
        try:
            self._queue.put(to_json(last), timeout=limit_s)
            self._queue.put(None, timeout=max(0.0, deadline_s - time.monotonic()))
            self._process.wait(max(0.0, deadline_s - time.monotonic()))
        except (queue.Full, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        return self._process.returncode == 0 and not self.dropped

    def _write(self) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        gone = False
        while (text := self._queue.get()) is not None:
            if gone:
                self.dropped += 1
                continue
            data = memoryview(text.encode() + b"\n")
            try:
                while data:
                    data = data[stdin.write(data) :]
            except OSError:
                gone = True
                self.dropped += 1
        with contextlib.suppress(OSError):
            stdin.close()

    def _relay_notices(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as notices:
            for line in notices:
                print_message(line.decode(errors="replace").rstrip())


def to_json(message: Mapping[str, Any]) -> str:
    """Return a message as one line; scalars of NumPy and torch become numbers, anything else odd its text."""
    return json.dumps(message, default=lambda value: value.item() if hasattr(value, "item") else str(value))


def build_environment(folder: Path) -> dict[str, str]:
    """Return the environment of the reporter: its modules are found, and W&B's files stay under the run."""
    environ = {name: value for name, value in os.environ.items() if name not in {"WANDB_MODE", "WANDB_DISABLED"}}
    root = str(Path(vqdist.__file__).resolve().parents[1])
    environ["PYTHONPATH"] = os.pathsep.join(filter(None, [root, environ.get("PYTHONPATH")]))
    environ.setdefault("WANDB_ERROR_REPORTING", "false")
    environ.setdefault("WANDB_DATA_DIR", str(folder.resolve() / "data"))
    environ.setdefault("WANDB_CACHE_DIR", str(folder.resolve() / "cache"))
    return environ


def guarded(method: Callable[..., None]) -> Callable[..., None]:
    """Return the method with every error kept away from training, and said instead."""

    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> None:
        try:
            method(*args, **kwargs)
        except Exception as error:  # noqa: BLE001
            print_message(f"W&B: {method.__name__} failed ({error!r}); the run goes on")

    return call


class Tracker:
    """What the training loop tells about a run; quiet without a reporter.

    No method blocks or raises; `finish` alone waits, a bounded time.

    Args:
        run_dir: the run's directory.
        reporter: the way to W&B; None on every rank but 0, and when tracking is disabled.
    """

    def __init__(self, run_dir: Path, reporter: Reporter | None = None) -> None:
        self.run_dir = run_dir
        self._reporter = reporter

    @property
    def active(self) -> bool:
        """Whether anything is sent at all."""
        return self._reporter is not None

    @guarded
    def log(self, record: Mapping[str, Any]) -> None:
        """Send one line of metrics.jsonl."""
        self._send("log", record=record)

    @guarded
    def log_pictures(self, step: int, pictures: Mapping[str, Path]) -> None:
        """Send PNG files, which must stay where they are: name -> path."""
        for name, path in pictures.items():
            self._send("picture", step=step, name=name, path=str(Path(path).resolve()))

    @guarded
    def log_histogram(self, step: int, name: str, counts: Iterable[float]) -> None:
        """Send how often each of the K codes was used, as a histogram over the code index."""
        if self.active:
            sums, edges = bin_usage(counts)
            self._send("histogram", step=step, name=name, sums=sums, edges=edges)

    @guarded
    def log_artifact(
        self,
        kind: Literal["dataset", "model", "codes"],
        name: str,
        *,
        folder: Path | None = None,
        metadata: Mapping[str, Any] | None = None,
        uses: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Put something into the lineage: a model is made by this run, a data set and codes are used by it.

        Args:
            kind: what it is.
            name: its name, the same wherever it appears, for example with its fingerprint inside.
            folder: of a model, the folder is uploaded; of anything else dataset.json alone.
            metadata: facts about it.
            uses: what else the run used to make it, each a mapping of these same arguments.
        """
        made = {"kind": kind, "name": name, "folder": folder, "metadata": metadata}
        for artifact in (*uses, made):
            path = artifact.get("folder") and str(Path(artifact["folder"]).resolve())
            facts = dict(artifact.get("metadata") or {})
            self._send("artifact", **{**artifact, "folder": path, "metadata": facts}, made=artifact is made)

    @guarded
    def alert(self, title: str, text: str) -> None:
        """Send an alert to whoever watches the project."""
        self._send("alert", title=title, text=text)

    @guarded
    def finish(self, state: State, exit_code: int, *, limit_s: float | None = None) -> None:
        """End the report and wait for it a bounded time; a run that stopped early or failed sends an alert."""
        reporter, self._reporter = self._reporter, None
        if reporter is None:
            return
        limit_s = FINISH_LIMIT_S[state] if limit_s is None else limit_s
        last = {"do": "finish", "state": state, "exit_code": exit_code, "limit_s": limit_s}
        if not reporter.close(last, limit_s):
            print_message(f"W&B has not got everything; `{propose_sync(str(self.run_dir))}` sends what it lacks")

    def _send(self, verb: str, **message: Any) -> None:
        if self._reporter is not None:
            self._reporter.send({"do": verb, **message})


def start_tracker(
    run_dir: Path,
    settings: TrackingSettings,
    *,
    run_name: str,
    config: Mapping[str, Any],
    job_type: str,
    is_main: bool,
    resumed_step: int = 0,
) -> Tracker:
    """Start to report a run, and return at once; how W&B is reached is said on stderr when it is known.

    Args:
        run_dir: the run's directory; W&B's files go to its `wandb/`, the run's id too, so that a
            requeued run goes on as the same run.
        settings: mode, project, entity, group and tags; the mode is taken as decided by `resolve_mode`.
        run_name: the name in the dashboard.
        config: the resolved configuration.
        job_type: the kind of run, for example the task.
        is_main: False on every rank but 0, where the tracker stays quiet.
        resumed_step: the step that training goes on from; earlier lines of metrics.jsonl that were
            never sent are sent first.
    """
    if not is_main or settings.mode == "disabled":
        return Tracker(run_dir)
    start = {
        "mode": settings.mode,
        "project": settings.project,
        "entity": settings.entity,
        "group": settings.group,
        "tags": list(settings.tags),
        "run_name": run_name,
        "job_type": job_type,
        "config": dict(config),
        "resumed_step": resumed_step,
    }
    try:
        return Tracker(run_dir, Reporter(run_dir, start))
    except OSError as error:
        print_message(f"W&B cannot be started ({error}); the run goes on without it")
        return Tracker(run_dir)
