"""The process that makes the W&B calls of one attempt: it follows metrics.jsonl and the event file of tracker.py."""

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from vqdist.foundation.errors import OwnershipError
from vqdist.foundation.json_lines import JsonLinesFollower
from vqdist.runs.environment import describe_environment, find_git_state
from vqdist.runs.metrics_file import read_metrics
from vqdist.runs.run_dir import RunDir
from vqdist.tracking.metric_rows import BEST, GLOBAL_STEP, find_best, join_reports, to_event
from vqdist.tracking.state import TrackingState
from vqdist.tracking.tracker import describe_offline

POLL_S = 0.5
ORPHAN_LIMIT_S = 30.0
MAX_TRIES = 4
# A scheduler may signal every process of a job; this one has yet to send how training ended.
BLOCKED_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2}


def open_run(
    run_dir: RunDir, state: TrackingState, *, mode: str, command: Sequence[str], config: dict[str, Any] | None
) -> Any:
    """Return the W&B run, new or continued.

    Args:
        command: words of the command that trains.
        config: None to add to a run that has ended.
    """
    import wandb

    state.job_ids = list(dict.fromkeys([*state.job_ids, *filter(None, [os.environ.get("SLURM_JOB_ID")])]))
    state.save(run_dir.wandb)
    sys.argv = list(command)  # W&B reads the arguments from here
    settings = {"console": "off", "silent": True, "disable_code": True, "program": command[0]}
    # The commit of the package, not of whatever repository is around; without W&B's diff of changed files.
    settings |= {"disable_git": True, **find_git_state(Path(__file__).resolve())}
    settings |= {
        # Private, as no public setting does the same: measure training, measure nothing, flush every second.
        "x_stats_pid": os.getppid(),
        "x_disable_stats": config is None,
        "x_transaction_log_flush_interval": 1.0,
    }
    placement: dict[str, Any] = {"mode": mode} | {key: value or None for key, value in state.start.items()}
    if "WANDB_SWEEP_ID" in os.environ:
        placement |= {"project": None, "entity": None}
    run = wandb.init(
        name=placement.pop("run_name"),
        config=config and {**config, "environment": describe_environment(state.job_ids)},
        allow_val_change=True,
        id=state.id,
        resume="allow",
        dir=run_dir.path,
        settings=wandb.Settings(**{key: settings[key] for key in settings.keys() & wandb.Settings.model_fields}),
        **placement,
    )
    run.define_metric("*", step_metric=GLOBAL_STEP)
    for chart, kind in BEST.items():
        run.define_metric(chart, step_metric=GLOBAL_STEP, summary=kind)
    return run


def send(run: Any, event: dict[str, Any]) -> None:
    """Make the W&B calls of an event."""
    import wandb

    match event:
        case {"do": "report", "step": step, "parts": parts}:
            if values := {chart: value for part in parts for chart, value in convert(part).items()}:
                run.log({**values, GLOBAL_STEP: step})
        case {"path": path} if not Path(path).exists():
            pass
        case {"do": "row", "row": row}:
            run.log(row)
        case {"do": "table", "stream": chart, "step": step}:
            run.log({chart: build_table(event["rows"], event["pictures"]), GLOBAL_STEP: step})
        case {"do": "artifact", "path": path, "is_input": is_input}:
            artifact = wandb.Artifact(event["name"], type=event["type"], metadata=event["metadata"])
            add = artifact.add_dir if Path(path).is_dir() else artifact.add_file
            add(path, skip_cache=True)
            if not is_input:
                run.log_artifact(artifact, aliases=event.get("aliases") or None)
            elif not run.offline:
                run.use_artifact(artifact)
            else:
                # Run.use_artifact refuses to work offline; this is the part of it that needs no server.
                run._log_artifact(artifact, is_user_created=True, use_after_commit=True)
        case {"do": "finish", "state": state, "exit_code": exit_code}:
            if state is not None:
                run.summary["state"] = state
            run.summary.update(event.get("best", {}))
            if state == "stopped" and "SLURM_JOB_ID" not in os.environ:  # the jobs of slurm/ requeue themselves
                run.mark_preempting()
            if state == "failed":
                run.alert(title=f"{run.name} {state}", text=f"{run.name} {state} with exit code {exit_code}")
            run.finish(exit_code=exit_code)


def convert(part: dict[str, Any]) -> dict[str, Any]:
    """Return chart -> value, as W&B logs it, of a row, a histogram or a picture; nothing for a picture that is gone."""
    import wandb

    match part:
        case {"do": "row", "row": row}:
            return dict(row)
        case {"do": "histogram", "stream": chart, "sums": sums, "edges": edges}:
            return {chart: wandb.Histogram(np_histogram=(sums, edges))}
        case {"do": "picture", "stream": chart, "step": step, "path": path} if Path(path).exists():
            return {chart: wandb.Image(path, caption=f"step {step}")}
    return {}


def build_table(rows: list[dict[str, Any]], pictures: list[str]) -> Any:
    """Return a W&B table with a column of pictures, unless there are none, before the columns of the rows."""
    import wandb

    columns = list(rows[0]) if rows else []
    data = [[row[column] for column in columns] for row in rows]
    if pictures:
        data = [[wandb.Image(path), *row] for path, row in zip(pictures, data, strict=True)]
        columns = ["sample", *columns]
    return wandb.Table(columns=columns, data=data)


def read_events(run_dir: RunDir, path: Path, training_pid: int, state: TrackingState) -> Iterator[dict[str, Any]]:
    """Yield what training logs, until it finishes or dies; raise OwnershipError if a newer attempt takes over.

    What is logged for the newest step is held back for one poll, so that a report is one row with all its parts.
    A step counts as sent before it is sent: a kill may lose it, and sync.py fills it in, but never repeats it.
    """
    events, metrics = JsonLinesFollower(path), JsonLinesFollower(run_dir.metrics)
    held: list[dict[str, Any]] = []
    while True:
        has_died = os.getppid() != training_pid
        # Before metrics.jsonl, which is complete when the end of training is logged. The first line has the start.
        logged = [event for event in events.read() if "do" in event]
        rows = [to_event(record) for record in metrics.read()]
        if run_dir.token:
            run_dir.check_owner()
        new = [event for event in rows + logged if "stream" not in event or state.claim(event["stream"], event["step"])]
        if new:
            state.save(run_dir.wandb)
        new += has_died * [{"do": "finish", "state": "failed", "exit_code": 1}]
        ready, held = hold_newest(held + new) if new else (held, [])
        for event in join_reports(ready):
            if event["do"] == "finish":
                yield {**event, "best": find_best_of(run_dir) if event["state"] is not None else {}}
                return
            yield event
        time.sleep(POLL_S)


def hold_newest(events: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the events to send now and those of the newest step, which are sent later; all now if the run ends."""
    if any(event["do"] == "finish" for event in events):
        return events, []
    newest = max((event.get("step", -1) for event in events), default=-1)
    ready = [event for event in events if event.get("step", -1) < newest]
    return (ready, [event for event in events if event.get("step", -1) >= newest]) if newest >= 0 else (events, [])


def find_best_of(run_dir: RunDir) -> dict[str, dict[str, float]]:
    """Return the best values over all attempts of a run; W&B knows only those of its own."""
    records = read_metrics(run_dir.metrics) if run_dir.metrics.exists() else []
    return find_best(to_event(record)["row"] for record in records)


def describe_images(*, has_ended: bool) -> str:
    """Return a notice that pictures are sent, and how to prevent it.

    Args:
        has_ended: the run has ended, and `vqdist evaluate` adds its report.
    """
    if has_ended:
        return "the figures of the report, with pictures of the data, are sent there; WANDB_MODE=disabled sends nothing"
    pictures = "pictures of the data (previews, reconstructions, samples)"
    return f"{pictures} are sent there; --tracking.images false sends none"


def exit_after(training_pid: int) -> None:
    """Exit some time after training, even while a W&B call hangs."""
    while os.getppid() == training_pid:
        time.sleep(1.0)
    time.sleep(ORPHAN_LIMIT_S)
    os._exit(1)


def main(run_path: Path, events_path: Path, training_pid: int) -> int:
    """Send one attempt; replace wandb-core after an error. Notices for the user go to stdout, the rest to stderr."""
    signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED_SIGNALS)
    threading.Thread(target=exit_after, args=[training_pid], daemon=True).start()
    notices = os.dup(1)
    os.dup2(2, 1)  # wandb-core inherits stdout, and its output belongs in the log

    def notify(text: str) -> None:
        with suppress(OSError):
            os.write(notices, f"W&B: {text}\n".encode())

    start = JsonLinesFollower(events_path).read()[0]
    run_dir = RunDir(run_path, start["token"])
    state = TrackingState.load(run_dir.wandb)
    if start["config"] is not None or not state.start:  # a report is added to the run as it is placed
        state.start = start["placement"]
    state.images = start["images"]
    mode = "offline" if start["mode"] == "offline" else "online"
    events = read_events(run_dir, events_path, training_pid, state)
    event: dict[str, Any] = {}
    is_continued = False
    for _ in range(MAX_TRIES):
        run, failed, event = None, event, {}
        try:
            run = open_run(run_dir, state, mode=mode, command=start["command"], config=start["config"])
            if mode == "online":
                notify(f"online, {run.url}")
                if state.images and not is_continued:
                    notify(describe_images(has_ended=start["config"] is None))
                is_continued = True
            send(run, failed)
            for event in events:
                send(run, event)
            events_path.unlink()
            return 0
        except OwnershipError:
            return 0
        except Exception as error:  # noqa: BLE001
            if run is None and mode == "online":
                mode, reason = "offline", str(error).partition("\n")[0].rstrip(".")
                notify(describe_offline(reason, run_path))
            with suppress(Exception):
                traceback.print_exc()
                import wandb

                wandb.teardown(exit_code=1)
    notify(f"too many errors, see {run_dir.wandb}/tracking.log")
    return 1


if __name__ == "__main__":
    # W&B's exit hooks may wait for a wandb-core that hangs.
    os._exit(main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))
