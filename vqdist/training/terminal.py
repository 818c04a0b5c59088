"""A training run on the terminal: a progress bar, or lines in a log, and a summary at the end."""

import os
import shlex
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vqdist.foundation.launcher_environment import read_world_size
from vqdist.foundation.progress import ProgressBar, count_noun, format_duration, format_rate, print_message
from vqdist.runs.checkpoint import list_checkpoints
from vqdist.runs.run_dir import RunDir

FIRST_LOSS_STEPS = 10  # after so many steps a log has a line with the loss, if it had none before
# key of a metric -> its label, the most important first
_LABELS = {
    "ssim": "SSIM",
    "bits_per_code": "bits per code",
    "psnr": "PSNR",
    "perplexity": "perplexity",
    "codes_used": "codes used",
}
_SHORT = ("ssim", "bits_per_code")


class TrainingTerminal:
    """Shows a run on stderr; silent unless `shown`.

    Args:
        run_dir: its name is the label of the lines.
        task: name of the task.
        data_path: the dataset, for the commands in the summary.
        first_step: step from which training continues; 0 for a new run.
        last_step: step at which training ends.
        has_validate: the dataset has a validate split, which `vqdist evaluate` takes by default.
        draws_volumes: the model reads the previous slice, so that whole volumes can be sampled.
        on_cpu: the ranks compute on CPUs.
        shown: True on rank 0 only.
    """

    def __init__(
        self,
        run_dir: Path,
        *,
        task: str,
        data_path: str,
        first_step: int,
        last_step: int,
        shown: bool,
        has_validate: bool = True,
        draws_volumes: bool = False,
        on_cpu: bool = False,
    ) -> None:
        self._run_dir, self._task, self._data_path = run_dir, task, data_path
        self._shown, self._has_validate, self._draws_volumes = shown, has_validate, draws_volumes
        self._launcher = choose_launcher(on_cpu=on_cpu)
        self._first_step, self._step = first_step, first_step
        self._last_step = last_step
        self._train: Mapping[str, Any] = {}
        self._first_loss: Mapping[str, Any] = {}
        self._validate: Mapping[str, Any] = {}
        self._best: Mapping[str, Any] = {}
        self._started_s = time.monotonic()
        self._progress = ProgressBar(
            last_step, unit="steps", label=run_dir.name, initial=first_step, shown=shown and first_step < last_step
        )

    def advance(self, step: int) -> None:
        """Show a finished step. The step decreases after a rollback to a checkpoint."""
        self._progress.advance(step - self._step)
        self._step = step
        if step - self._first_step == FIRST_LOSS_STEPS and not self._progress.lines:
            self._progress.write_line()

    def show_loss(self, loss: float | None) -> None:
        """Show a training loss, None if it was not finite, until the first line of metrics.jsonl."""
        if not self._train:
            self._first_loss = {"loss": loss}
            self._progress.annotate(self._describe_short())

    def log(self, record: Mapping[str, Any]) -> None:
        """Show a line of metrics.jsonl: train beside the bar, validate as a line."""
        if record["split"] == "validate":
            self._validate = record
            if is_better(record, self._best):
                self._best = record
        else:
            self._train = record
        self._progress.annotate(self._describe_short())
        if record["step"] != self._step:
            self.advance(record["step"])
        if self._shown and record["split"] == "validate":
            print_message(f"{self._run_dir.name}: step {record['step']:,}, validate: {describe_metrics(record)}")

    def close(self, state: str) -> None:
        """Remove the bar and print the summary: outcome, metrics, and the next command.

        Args:
            state: finished, stopped, failed, or taken over by another process, which continues the run.
        """
        self._progress.close(complete=False)
        if self._shown:
            print_message("\n".join(self.summarize(state)))

    def summarize(self, state: str) -> list[str]:
        """Return the lines of the summary."""
        done = self._step - self._first_step
        elapsed_s = time.monotonic() - self._started_s
        steps = f"{count_noun(done, 'step')} in {format_duration(elapsed_s)}"
        lines = [f"{self._run_dir.name}: {state} at step {self._step:,}, {steps}"]
        written = list_checkpoints(RunDir(self._run_dir).checkpoints)
        if state in {"stopped", "failed"} and written:
            lines.append(f"  resumes   from the checkpoint {written[-1]}")
        if self._validate:
            lines.append(f"  validate  {describe_metrics(self._validate)}")
        if self._best and self._best["step"] != self._validate["step"]:
            lines.append(f"  best      step {self._best['step']:,}: {describe_metrics(self._best)}")
        files = RunDir(self._run_dir)
        for name, folder in (("model", files.model), ("pictures", files.previews), ("figures", files.figures)):
            if folder.is_dir():
                lines.append(f"  {name:<9} {folder}")
        commands = self.propose_commands(state)
        return lines + [f"  {'next' if n == 0 else '':<9} {command}" for n, command in enumerate(commands)]

    def propose_commands(self, state: str) -> list[str]:
        """Return the next commands, ready to paste."""
        run, launch = str(self._run_dir), self._launcher
        if state == "taken over" or (state == "failed" and not list_checkpoints(RunDir(self._run_dir).checkpoints)):
            return []  # nothing to go on with
        if state != "finished":
            # At its last step a run stops because of train.stop_at_step, and would stop there again.
            on = ["--train.stop_at_step", "null"] if state == "stopped" and self._step >= self._last_step else []
            return [join(launch, "train", "--config", str(RunDir(self._run_dir).config), *on)]
        split = [] if self._has_validate else ["--split", "train"]
        # Without --data, evaluate takes the dataset that the run names; one behind a URL has to be given.
        data = [] if Path(self._data_path).is_dir() else ["--data", self._data_path]
        if self._task == "pixelcnn":
            samples = str(choose_samples_folder(self._run_dir))
            number = ["--volumes", "4"] if self._draws_volumes else ["--num", "64"]
            return [
                join(launch, "sample", "--prior", run, *number, "--out", samples),
                join(launch, "evaluate", "--run", run, *data, "--samples", samples, *split),
            ]
        evaluate = join(launch, "evaluate", "--run", run, *data, *split)
        codes = str(choose_codes_folder(self._run_dir, self._data_path))
        return [evaluate, join(launch, "encode", "--run", run, "--data", self._data_path, "--out", codes)]

    def _describe_short(self) -> str:
        train = self._train or self._first_loss
        parts = [describe_loss(train)] if "loss" in train else []
        for key in _SHORT:
            # The validate value if there is one, else the train value.
            value = self._validate.get(key, self._train.get(key))
            if value is not None:
                parts.append(f"{_LABELS[key]} {value:.4g}")
        rate = self._train.get("perf", {}).get("samples_per_s")
        if rate is not None:
            parts.append(f"{format_rate(rate)} images/s")
        return ", ".join(parts)


def describe_metrics(record: Mapping[str, Any]) -> str:
    """Return the metrics of a validate line with their labels."""
    shown = [f"{label} {record[key]:.4g}" for key, label in _LABELS.items() if record.get(key) is not None]
    return ", ".join([describe_loss(record), *shown])


def describe_loss(record: Mapping[str, Any]) -> str:
    """Return the loss of a line; it is null if it was not finite."""
    return "loss not finite" if record["loss"] is None else f"loss {record['loss']:.4g}"


def is_better(record: Mapping[str, Any], best: Mapping[str, Any]) -> bool:
    """Return whether a validate line is better than the best so far, {} if there is none."""
    return record["loss"] is not None and (not best or record["loss"] < best["loss"])


def choose_codes_folder(run_dir: Path, data_path: str) -> Path:
    """Return a folder for the codes of a run: named by the run, as several runs may encode the same dataset.

    It is beside the dataset; for a URL, a single shard or a pattern of shards, beside the run.
    """
    data = Path(data_path)
    return (data if data.is_dir() else run_dir).parent / f"{run_dir.name}-codes"


def choose_samples_folder(run_dir: Path) -> Path:
    """Return a folder for samples: `samples` in the working directory, or, if there is one, RUN-samples."""
    samples = Path("samples")
    return run_dir.with_name(f"{run_dir.name}-samples") if samples.exists() else samples


def choose_launcher(*, on_cpu: bool) -> str:
    """Return what precedes the name of a command, for the launcher of this run; one process needs none.

    Several ranks on CPUs need a configuration file of the launcher, whose path is not known here; one process of the
    same command uses all cores and continues the same run.
    """
    has_launcher = read_world_size() > 1 or "ACCELERATE_MIXED_PRECISION" in os.environ
    return "accelerate launch -m vqdist." if has_launcher and not on_cpu else "vqdist "


def join(launcher: str, *words: str) -> str:
    """Return a command line with its words quoted for the shell."""
    return launcher + shlex.join(words)
