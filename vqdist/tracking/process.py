"""The process that makes the W&B calls of a run: python -m vqdist.tracking.process RUN EVENTS TRAINING_PID.

Follows RUN/metrics.jsonl and the event file of one attempt, and exits soon after training. Notices for the user go to
stderr, everything else to RUN/wandb/tracking.log.
"""

import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from vqdist.runs.environment import describe_environment
from vqdist.tracking.rows import GLOBAL_STEP, to_row
from vqdist.tracking.server import find_obstacle, propose_sync
from vqdist.tracking.state import TrackingState

POLL_S = 0.5
ORPHAN_LIMIT_S = 30.0
MAX_TRIES = 4
GONE = {"do": "finish", "state": "failed", "exit_code": 1}  # for training that did not log its end


class JsonTail:
    """Read what is appended to a JSON-lines file, from the beginning again if the file is replaced."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._rest = b""

    def read(self) -> list[dict[str, Any]]:
        """Return the records since the last call; an incomplete line waits for the next call."""
        with suppress(OSError):
            if self._file is None or not os.path.samestat(os.fstat(self._file.fileno()), self._path.stat()):
                self._file, self._rest = self._path.open("rb"), b""
            *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
            return [json.loads(line) for line in lines]
        return []


def open_run(run_dir: Path, state: TrackingState, *, mode: str, program: str, config: dict[str, Any] | None) -> Any:
    """Return the W&B run, new or continued; a config of None is for adding to a run that has ended."""
    import wandb

    state.own()
    state.save(run_dir)
    settings = {
        "console": "off",
        "silent": True,
        "disable_code": True,
        "disable_git": True,
        "program": program,
        # There is no public setting to measure the training process, or nothing, and to flush every second.
        "x_stats_pid": os.getppid(),
        "x_disable_stats": config is None,
        "x_transaction_log_flush_interval": 1.0,
    }
    placement = {key: value or None for key, value in state.start.items()}
    if "WANDB_SWEEP_ID" in os.environ:
        placement |= {"project": None, "entity": None}
    run = wandb.init(
        name=placement.pop("run_name"),
        config=config and {**config, "environment": describe_environment(state.job_ids)},
        allow_val_change=True,
        id=state.id,
        resume="allow",
        mode=mode,
        dir=run_dir,
        settings=wandb.Settings(**{key: settings[key] for key in settings.keys() & wandb.Settings.model_fields}),
        **placement,
    )
    run.define_metric("*", step_metric=GLOBAL_STEP)
    return run


def send(run: Any, event: Mapping[str, Any]) -> None:
    """Make the W&B call of an event."""
    import wandb

    match event:
        case {"path": path} if not Path(path).exists():
            pass
        case {"do": "row", "row": row}:
            run.log(row)
        case {"do": "histogram", "stream": chart, "step": step, "sums": sums, "edges": edges}:
            run.log({chart: wandb.Histogram(np_histogram=(sums, edges)), GLOBAL_STEP: step})
        case {"do": "picture", "stream": chart, "step": step, "path": path}:
            run.log({chart: wandb.Image(path, caption=f"step {step}"), GLOBAL_STEP: step})
        case {"do": "artifact", "path": path}:
            artifact = wandb.Artifact(event["name"], type=event["type"], metadata=event["metadata"])
            add = artifact.add_dir if Path(path).is_dir() else artifact.add_file
            add(path, skip_cache=True)
            if not event["is_input"]:
                run.log_artifact(artifact)
            elif not run.offline:
                run.use_artifact(artifact)
            else:
                # Run.use_artifact refuses to work offline; this is the part of it that needs no server.
                run._log_artifact(artifact, is_user_created=True, use_after_commit=True)
        case {"do": "finish", "state": state, "exit_code": exit_code}:
            run.summary["state"] = state
            if state == "stopped":
                run.mark_preempting()
            if state != "finished":
                run.alert(title=f"{run.name} {state}", text=f"{run.name} {state} with exit code {exit_code}")
            run.finish(exit_code=exit_code)


def follow(run_dir: Path, events_path: Path, training_pid: int, mode: str) -> None:
    """Send what training logs until it finishes or is gone.

    A step counts as sent before it is sent: a kill may lose it, and sync.py fills it in, but never repeats it.
    """
    events, metrics, owner = JsonTail(events_path), JsonTail(run_dir / "metrics.jsonl"), read_owner(run_dir)
    start, *batch = events.read()
    state = TrackingState.load(run_dir)
    state.start = start["run"]
    run = open_run(run_dir, state, mode=mode, program=start["program"], config=start["config"])
    while True:
        is_gone = os.getppid() != training_pid
        batch += events.read() + ([GONE] if is_gone else [])
        for record in metrics.read(): 
            batch.append({"do": "row", "stream": record["split"], "step": record["step"], "row": to_row(record)})
        if read_owner(run_dir) != owner:
            return  # a newer attempt sends its own lines
        batch = [event for event in batch if "stream" not in event or state.claim(event["stream"], event["step"])]
        batch.sort(key=...)  # the end last
        state.save(run_dir)
        for event in batch:
            send(run, event)
            if event["do"] == "finish":
                return
        batch.clear()
        time.sleep(POLL_S)


def exit_after(training_pid: int) -> None:
    """Exit some time after training, even while a W&B call hangs."""
    while os.getppid() == training_pid:
        time.sleep(1.0)
    time.sleep(ORPHAN_LIMIT_S)
    os._exit(1)


def main(run_dir: Path, events_path: Path, training_pid: int) -> int:
    """Send one attempt; after an error, begin again with what was not sent, offline."""
    # wandb-core inherits the mask: a scheduler that signals every process of a job must not end the report.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2})
    threading.Thread(target=exit_after, args=[training_pid], daemon=True).start()
    notices = os.dup(2)
    os.dup2(1, 2)
    ...
    for _ in range(MAX_TRIES):
        try:
            follow(run_dir, events_path, training_pid, mode)
            events_path.unlink()
            return 0
        except Exception as error:
            with suppress(Exception):
                traceback.print_exc()
                import wandb

                wandb.teardown(exit_code=1)
            if mode == "online": 
                mode = "offline"
                notify("...")
    notify(f"W&B: too many errors, see {run_dir}/wandb/tracking.log; training continues without it")
    return 1


if __name__ == "__main__":
    # W&B's exit hooks may wait for a wandb-core that hangs.
    os._exit(main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))
