"""The process that talks to W&B; tracking.py starts it on rank 0 and writes it one JSON message a line.

    python -m vqdist.tracking.reporter PID_OF_TRAINING < messages

It may hang or die: training does not wait for it. The run's id and the last step sent of every stream
are kept in `wandb/tracking.json`, so that a requeued run goes on as the same run and sends no step twice.
"""

import contextlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from vqdist.foundation.json_lines import read_json_lines
from vqdist.runs.environment import describe_environment
from vqdist.tracking.lifeline import end_soon, read_messages, watch_training
from vqdist.tracking.rows import GLOBAL_STEP, SECTIONS, to_row
from vqdist.tracking.sent import SentSteps
from vqdist.tracking.server import decide_mode

FLUSH_INTERVAL_S = 1.0
INIT_TIMEOUT_S = 60.0
MAX_RESTARTS = 3
# Kept with the id, so that rows filled in later land in the same place.
START_FACTS = ("project", "entity", "group", "tags", "run_name", "job_type")
# wandb-core inherits the mask: a scheduler that signals every process of a job must not end the report.
BLOCKED = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2}


class Report:
    """One run in W&B: each message of the training process becomes a call.

    Args:
        start: the message that starts a run.
        notify: writes a line for the user.
    """

    def __init__(self, start: dict[str, Any], notify: Callable[[str], None]) -> None:
        self._start = start
        self._notify = notify
        self._folder = Path(start["run_dir"]) / "wandb"
        self.steps = SentSteps(self._folder)
        self._fill = bool(start.get("fill", False))
        self._run: Any = None
        self._mode = decide_mode(start["mode"], start["run_dir"], notify)

    def open(self) -> None:
        """Start the run, or go on with it under its kept id; offline where the server refuses."""
        job_id = os.environ.get("SLURM_JOB_ID")
        if job_id and job_id not in self.steps.job_ids:
            self.steps.job_ids.append(job_id)
        if not self._fill:
            self.steps.start = {name: self._start[name] for name in START_FACTS}
        self.steps.own()
        try:
            self._run = self._init()
        except Exception as error:
            if self._mode == "offline":
                raise
            self._mode = "offline"
            self._notify(f"W&B: the server refused the run ({first_line(error)}); tracked offline instead")
            self._run = self._init()
        for section in SECTIONS:
            self._run.define_metric(f"{section}/*", step_metric=GLOBAL_STEP)
        if self._mode == "online":
            self._notify(f"W&B: online, {self._run.url}")

    def _init(self) -> Any:
        import wandb

        wanted = {
            "console": "off",
            "silent": True,
            "disable_code": True,
            "disable_git": True,
            "init_timeout": INIT_TIMEOUT_S,
            "program": self._start["program"],
            "x_stats_pid": os.getppid(),
            "x_transaction_log_flush_interval": FLUSH_INTERVAL_S,
            "x_disable_stats": self._fill,
        }
        # Settings with an x_ come and go between versions of W&B.
        known = wandb.Settings.model_fields
        in_sweep = "WANDB_SWEEP_ID" in os.environ
        return wandb.init(
            project=None if in_sweep else self._start["project"],
            entity=None if in_sweep else self._start["entity"],
            group=self._start["group"],
            tags=self._start["tags"] or None,
            name=self._start["run_name"],
            job_type=self._start["job_type"],
            config=None if self._fill else self._describe_config(),
            allow_val_change=True,
            id=self.steps.run_id,
            resume="allow",
            mode=self._mode,
            dir=self._start["run_dir"],
            settings=wandb.Settings(**{name: value for name, value in wanted.items() if name in known}),
        )

    def _describe_config(self) -> dict[str, Any]:
        return {**self._start["config"], "environment": describe_environment(self.steps.job_ids)}

    def send_earlier(self, last_step: int) -> None:
        """Send the lines of metrics.jsonl up to a step that no earlier start has sent."""
        metrics = self._folder.parent / "metrics.jsonl"
        if last_step > 0 and metrics.exists():
            for _, record in read_json_lines(metrics):
                if record["step"] <= last_step:
                    self.send_record(record)

    def send_record(self, record: dict[str, Any]) -> None:
        """Send a line of metrics.jsonl unless its step was sent before."""
        if self._fill or self.steps.claim(str(record.get("split", "train")), int(record["step"])):
            self._run.log(to_row(record))

    def handle(self, message: dict[str, Any]) -> None:
        """Make the call that a message asks for."""
        verb = message["do"]
        if verb == "log":
            self.send_record(message["record"])
        elif verb == "picture":
            self._send_picture(message["name"], message["step"], Path(message["path"]))
        elif verb == "histogram":
            self._send_histogram(message)
        elif verb == "artifact":
            self._send_artifact(message)
        elif verb == "alert":
            self._run.alert(title=message["title"], text=message["text"])
        elif verb == "summary":
            self._run.summary.update(message["values"])

    def _send_picture(self, name: str, step: int, path: Path) -> None:
        import wandb

        chart = name if "/" in name else f"pictures/{name}"
        if path.is_file() and (self._fill or self.steps.claim(chart, step)):
            self._run.log({chart: wandb.Image(str(path), caption=f"step {step}"), GLOBAL_STEP: step})

    def _send_histogram(self, message: dict[str, Any]) -> None:
        import wandb

        name, step = message["name"], message["step"]
        if self.steps.claim(name, step):
            histogram = wandb.Histogram(np_histogram=(message["sums"], message["edges"]))
            self._run.log({name: histogram, GLOBAL_STEP: step})

    def _send_artifact(self, message: dict[str, Any]) -> None:
        import wandb

        kind, folder = message["kind"], message["folder"] and Path(message["folder"])
        artifact = wandb.Artifact(
            message["name"], type=kind, metadata={**(message["metadata"] or {}), "path": folder and str(folder)}
        )
        if kind == "model" and folder and folder.is_dir():
            artifact.add_dir(str(folder), skip_cache=True)
        elif folder and (folder / "dataset.json").is_file():
            artifact.add_file(str(folder / "dataset.json"), skip_cache=True)
        else:
            with artifact.new_file("about.json") as file:
                json.dump(message["metadata"] or {}, file, sort_keys=True)
        if kind == "model" and message["made"]:
            self._run.log_artifact(artifact)
        elif self._mode == "online":
            self._run.use_artifact(artifact)
        else:
            # Run.use_artifact refuses to work offline; this is the call inside it that needs no server.
            self._run._log_artifact(artifact, is_user_created=True, use_after_commit=True)

    def close(self, state: str, exit_code: int) -> None:
        """End the run in W&B with what became of it."""
        if self._fill:
            self._run.finish(exit_code=exit_code)
            return
        self._run.summary["state"] = state
        if state == "stopped":
            self._run.mark_preempting()
        if state != "finished":
            name = self._start["run_name"]
            self._run.alert(title=f"{name} {state}", text=f"{name} {state} with exit code {exit_code}")
        self._run.finish(exit_code=exit_code)


def first_line(error: BaseException) -> str:
    """Return an error's first line, or its type where it has no text."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class Guard:
    """Keeps a report alive: a call that fails gets a new core process and one more try, a few times in all."""

    def __init__(self, report: Report, notify: Callable[[str], None]) -> None:
        self._report, self._notify = report, notify
        self._restarts_left = MAX_RESTARTS
        self.alive = self.attempt(report.open)

    def attempt(self, call: Callable[..., None], *args: Any) -> bool:
        """Make a call; return whether it worked in the end."""
        while True:
            try:
                call(*args)
                return True
            except Exception:  # noqa: BLE001
                with contextlib.suppress(OSError):
                    traceback.print_exc()
            if self._restarts_left == 0:
                self.alive = False
                self._notify("W&B: given up for this start (see wandb/reporter.log); the run goes on without it")
                return False
            self._restarts_left -= 1
            self._restart(call)

    def _restart(self, call: Callable[..., None]) -> None:
        self._report.steps.release()
        try:
            import wandb

            wandb.teardown(exit_code=1)
            if call != self._report.open:
                self._report.open()
        except Exception:  # noqa: BLE001
            with contextlib.suppress(OSError):
                traceback.print_exc()


def report_run(messages: Iterator[dict[str, Any]], notify: Callable[[str], None]) -> int:
    """Report one run from its messages; return the exit code of this process."""
    start = next(messages, None)
    if start is None:
        return 0
    report = Report(start, notify)
    guard = Guard(report, notify)
    if guard.alive:
        guard.attempt(report.send_earlier, start["resumed_step"])
    for message in messages:
        if message["do"] == "finish":
            end_soon(message["limit_s"])
            return 0 if guard.alive and guard.attempt(report.close, message["state"], message["exit_code"]) else 1
        if guard.alive:
            guard.attempt(report.handle, message)
    if guard.alive:
        guard.attempt(report.close, "failed", 1)
    return 1


def main(training_pid: int) -> int:
    """Report the run whose messages come on stdin; lines for the user go to stdout, everything else to stderr."""
    signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED)
    watch_training(training_pid)
    notices = os.fdopen(os.dup(1), "w")
    # wandb-core inherits descriptor 1: what it writes there is for the log.
    os.dup2(2, 1)

    def notify(text: str) -> None:
        with contextlib.suppress(OSError):
            notices.write(text + "\n")
            notices.flush()

    return report_run(read_messages(sys.stdin, training_pid), notify)


if __name__ == "__main__":
    code = main(int(sys.argv[1]))
    # W&B's own exit hooks may wait for a core process that hangs.
    os._exit(code)
