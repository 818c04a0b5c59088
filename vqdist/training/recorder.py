"""What a run tells while it runs: metrics.jsonl and ledger (the record), W&B and the terminal (views of it)."""

import math
import time
from pathlib import Path
from typing import Any

import torch

from vqdist.data.loading.batch import Batch
from vqdist.foundation.json_lines import JsonLinesFile
from vqdist.foundation.progress import print_from_any_rank
from vqdist.runs.run_dir import RunDir
from vqdist.tracking.tracker import Tracker
from vqdist.training.state import Session
from vqdist.training.step import StepResult
from vqdist.training.terminal import TrainingTerminal
from vqdist.training.validation import describe_usage


class Recorder:
    """Writes the run's record; rank 0 tells the metrics, every rank its own ledger.

    Args:
        run_dir: owned by this start.
        tracker, terminal: quiet on every rank but 0.
    """

    def __init__(self, session: Session, run_dir: RunDir, tracker: Tracker, terminal: TrainingTerminal) -> None:
        self._session = session
        self._run_dir = run_dir
        self._tracker = tracker
        self._terminal = terminal
        self.open()

    def open(self) -> None:
        """Open the files where they end, and begin to measure time."""
        run_dir, session = self._run_dir, self._session
        metrics, ledger = run_dir.path / "metrics.jsonl", run_dir.path / "ledger" / f"rank-{session.ranks.rank}.jsonl"
        self._metrics = JsonLinesFile(metrics, run_dir.check_owner) if session.ranks.is_main else None
        self._ledger = JsonLinesFile(ledger, run_dir.check_owner) if session.config.data.ledger else None
        self._since, self._since_step = time.perf_counter(), session.progress.step
        self._data_wait_s = 0.0

    def waited(self, seconds: float) -> None:
        """Count time that the step waited for its data."""
        self._data_wait_s += seconds

    def trained(self, micro_batches: list[Batch], result: StepResult) -> None:
        """Tell that a step is done: what this rank trained on, for its ledger, and what was left out."""
        self._terminal.advance(self._session.progress.step)
        for damage in [text for batch in micro_batches for text in batch.skipped]:
            print_from_any_rank(f"step {self._session.progress.step}: skipped {damage}")
        if self._ledger is None:
            return
        keys = [key for batch in micro_batches for key in batch.keys]
        line = {"keys": keys} if result.finite else {"keys": [], "not_finite": keys}
        self._ledger.append({"step": self._session.progress.step, **line})

    def train_line(self, result: StepResult) -> None:
        """Tell the means over all samples since the train line before, and start gathering the next."""
        session, progress = self._session, self._session.progress
        seconds = time.perf_counter() - self._since
        steps = progress.step - self._since_step
        record: dict[str, Any] = {
            name: total / count for name, (total, count) in sorted(progress.sums.items()) if count
        }
        if session.usage is not None:
            usage = session.usage.cpu().double()
            record |= describe_usage(usage)
            self._tracker.log_histogram(progress.step, "codebook/usage", usage.tolist())
            session.usage.zero_()
        if session.quantizer is not None:
            record["restarts"] = session.quantizer.restarted.item()
            session.quantizer.restarted.zero_()
        record |= {"lr": result.lr, "grad_norm": result.grad_norm}
        record |= {"bad_steps": progress.bad_steps, "skipped_samples": progress.skipped_samples}
        perf = {
            "seconds": seconds,
            "samples_per_s": steps * session.config.data.global_batch_size / seconds,
            "data_wait_s": self._data_wait_s,
            "memory_gib": _memory_gib(session.ranks.device),
        }
        self._tell("train", record, perf)
        progress.sums = {}
        self._since, self._since_step, self._data_wait_s = time.perf_counter(), progress.step, 0.0

    def validate_line(self, metrics: dict[str, float], seconds: float) -> None:
        """Tell the means over the validate split."""
        self._tell("validate", metrics, {"seconds": seconds})
        self._since += seconds  # rates of training leave out the time of evaluating

    def preview(self, path: Path) -> None:
        """Tell that a picture was made."""
        self._tracker.log_pictures(self._session.progress.step, {"previews": path})

    def sync(self) -> None:
        """Make everything told so far survive a power loss."""
        for file in (self._metrics, self._ledger):
            if file is not None:
                file.sync()

    def close(self) -> None:
        for file in (self._metrics, self._ledger):
            if file is not None:
                file.close()

    def _tell(self, split: str, values: dict[str, Any], perf: dict[str, float]) -> None:
        step = self._session.progress.step
        samples = step * self._session.config.data.global_batch_size
        # JSON has no infinity and no NaN: what is not finite is told as null.
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        record = {"step": step, "samples": samples, "split": split, **finite, "perf": perf}
        if self._metrics is not None:
            self._metrics.append(record)
        self._tracker.log(record)
        self._terminal.log(record)


def _memory_gib(device: torch.device) -> float:
    """Return the most memory held so far: of the device where it counts it, else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    import resource
    import sys

    unit = 1 if sys.platform == "darwin" else 1024  # bytes on a Mac, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
