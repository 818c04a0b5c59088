"""What a run writes while it trains: metrics.jsonl and ledger, and the views of them in W&B and on the terminal."""

import math
import sys
import time
from pathlib import Path
from typing import Any

import torch

from vqdist.data.loading.batch import Batch
from vqdist.foundation.json_lines import JsonLinesFile
from vqdist.foundation.progress import print_from_any_rank
from vqdist.runs.run_dir import RunDir
from vqdist.tracking.tracker import Tracker
from vqdist.training.state import TrainingState
from vqdist.training.step import StepResult
from vqdist.training.terminal import TrainingTerminal


class Recorder:
    """Writes the metrics on rank 0, and on every rank its own ledger.

    Args:
        run_dir: owned by this attempt.
        tracker, terminal: silent on every rank but 0.
    """

    def __init__(self, state: TrainingState, run_dir: RunDir, tracker: Tracker, terminal: TrainingTerminal) -> None:
        self._state, self._run_dir, self._tracker, self._terminal = state, run_dir, tracker, terminal
        self.open()

    def open(self) -> None:
        """Open the files for appending, and start to measure time."""
        run_dir, state = self._run_dir, self._state
        metrics, ledger = run_dir.metrics, run_dir.ledger(state.ranks.rank)
        self._metrics = JsonLinesFile(metrics, run_dir.check_owner) if state.ranks.is_main else None
        self._ledger = JsonLinesFile(ledger, run_dir.check_owner) if state.config.data.ledger else None
        self._since_s, self._since_step = time.perf_counter(), state.progress.step
        self._data_wait_s = 0.0

    def add_data_wait(self, seconds: float) -> None:
        """Add time that a step waited for its data."""
        self._data_wait_s += seconds

    def record_step(self, micro_batches: list[Batch], result: StepResult) -> None:
        """Record the sample keys of a step in this rank's ledger, and report the damaged samples."""
        step = self._state.progress.step
        total, count = self._state.progress.sums.get("loss", (0.0, 0.0))
        self._terminal.show_loss(total / count if count else None)
        self._terminal.advance(step)
        for damage in [text for batch in micro_batches for text in batch.skipped]:
            print_from_any_rank(f"step {step}: skipped {damage}")
        if self._ledger is not None:
            keys = [key for batch in micro_batches for key in batch.keys]
            line = {"keys": keys} if result.finite else {"keys": [], "not_finite": keys}
            self._ledger.append({"step": step, **line})

    def write_train_line(self, result: StepResult) -> None:
        """Write the means over all samples since the last train line."""
        state, progress = self._state, self._state.progress
        seconds = time.perf_counter() - self._since_s
        steps = progress.step - self._since_step
        record: dict[str, Any] = {
            name: total / count for name, (total, count) in sorted(progress.sums.items()) if count
        }
        if totals := state.task.take_totals():
            record |= state.task.metrics(totals)
            for name, total in totals.items():
                if total.ndim == 1:
                    self._tracker.log_histogram(progress.step, name, total.tolist())
        record |= {"lr": result.lr, "grad_norm": result.grad_norm}
        record |= {"bad_steps": progress.bad_steps, "skipped_samples": progress.skipped_samples}
        perf = {
            "seconds": seconds,
            "samples_per_s": steps * state.config.data.global_batch_size / seconds,
            "data_wait_s": self._data_wait_s,
            "memory_gib": _measure_memory_gib(state.ranks.device),
        }
        self._write("train", record, perf)
        progress.sums = {}
        self._since_s, self._since_step, self._data_wait_s = time.perf_counter(), progress.step, 0.0

    def write_validate_line(self, metrics: dict[str, float], seconds: float) -> None:
        """Write the means over the validate split."""
        self._write("validate", metrics, {"seconds": seconds})
        self._since_s += seconds  # the rates of training exclude the time of the evaluation

    def record_preview(self, path: Path) -> None:
        """Log a preview picture to W&B."""
        self._tracker.log_pictures(self._state.progress.step, {"previews": path})

    def sync(self) -> None:
        """Write everything recorded so far to the disk."""
        for file in (self._metrics, self._ledger):
            if file is not None:
                file.sync()

    def close(self) -> None:
        for file in (self._metrics, self._ledger):
            if file is not None:
                file.close()

    def _write(self, split: str, values: dict[str, Any], perf: dict[str, float]) -> None:
        step = self._state.progress.step
        samples = step * self._state.config.data.global_batch_size
        # JSON has no infinity and no NaN: a value that is not finite becomes null.
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        record = {"step": step, "samples": samples, "split": split, **finite, "perf": perf}
        if self._metrics is not None:
            self._metrics.append(record)
        self._terminal.log(record)


def _measure_memory_gib(device: torch.device) -> float:
    """Return the peak memory: of the device on CUDA, else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    import resource

    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
