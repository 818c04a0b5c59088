"""The record of one attempt of a run, which is closed however the attempt ends."""

import threading
from contextlib import suppress

from vqdist.distributed.process_group import Ranks
from vqdist.foundation.command import end_process, report
from vqdist.foundation.errors import OwnershipError, StalledError
from vqdist.foundation.progress import print_from_any_rank, print_message
from vqdist.foundation.run_status import read_status
from vqdist.plotting.training_curves import draw_training_curves
from vqdist.runs.run_dir import RunDir
from vqdist.tracking.tracker import Tracker
from vqdist.training.state import TrainingProgress
from vqdist.training.terminal import TrainingTerminal
from vqdist.training.wandb_artifacts import log_model

UNWIND_S = 3.0  # for an error of the main thread, after another rank has ended


class Attempt:
    """The status, the summary and the end in W&B of an attempt, written by rank 0; a failure, by any rank.

    Args:
        run_dir: owned by this attempt.
        task: name of the task.
        progress: what the record says if the run fails before its state is restored.
    Attributes:
        progress: the counters of the run.
        tracker: sends nothing until it is replaced.
        terminal: None until training starts.
    """

    def __init__(self, ranks: Ranks, run_dir: RunDir, task: str, progress: TrainingProgress) -> None:
        self.ranks, self.run_dir, self.progress = ranks, run_dir, progress
        self.tracker = Tracker(run_dir, None)
        self.terminal: TrainingTerminal | None = None
        self._task = task
        self._lock, self._closes = threading.Lock(), threading.Event()

    def close(self, outcome: str, code: int, error: str | None = None) -> None:
        """Write how the attempt ended, once.

        Args:
            outcome: finished, stopped or failed.
            code: exit code.
            error: why it failed, if an exception says so.
        """
        self._closes.set()
        with self._lock:
            if not self.ranks.is_main:
                self._record_for_main(outcome, error)
                return
            is_owner = self._record(outcome, error)
            if self.terminal is not None:
                self.terminal.close(outcome if is_owner else "taken over")
            if outcome == "finished":
                log_model(self.tracker, self.run_dir.path, self._task)
            self.tracker.finish(outcome, code)

    def end(self, reason: str) -> None:
        """Write that the attempt failed because another rank has ended, and end this process.

        Called in a thread, while the main thread may wait for a GPU. If it does not, it soon meets an error itself, and
        its unwinding is not disturbed.
        """
        if self._closes.is_set():
            return
        error = StalledError(f"another rank has ended: {reason}")
        with self._lock:
            report(error, verbose=False)
            # At once, because NCCL may end the process.
            if self.ranks.is_main:
                self._record("failed", str(error))
            else:
                self._record_for_main("failed", str(error))
            if self._closes.wait(UNWIND_S):
                return
            if self.ranks.is_main:
                self.tracker.finish("failed", error.exit_code)
            end_process(error.exit_code)

    def _record_for_main(self, outcome: str, error: str | None) -> None:
        """Write the status of a failed run if rank 0 has not done so; it may have been killed."""
        if outcome == "failed" and read_status(self.run_dir.path).get("state") == "running":
            with suppress(OwnershipError, OSError):
                self._write_status(outcome, error)

    def _write_status(self, outcome: str, error: str | None) -> None:
        details = {"ended_early": self.progress.ended_early} | ({"error": error} if error else {})
        self.run_dir.write_status(outcome, self.progress.step, **details)

    def _record(self, outcome: str, error: str | None) -> bool:
        """Write the final status and draw the loss curves, unless a newer attempt owns the directory.

        Returns:
            False if a newer attempt owns it.
        """
        try:
            self._write_status(outcome, error)
            if outcome in {"stopped", "finished"}:
                self._remove_stop_file(outcome)
            if outcome == "finished":
                self._draw_curves()
        except OwnershipError as lost:
            if error is None:  # otherwise the caller reports it, or another reason
                print_from_any_rank(f"error: {lost}")
            return False
        except OSError as failure:
            print_from_any_rank(f"error: {failure}")
        return True

    def _remove_stop_file(self, outcome: str) -> None:
        file = self.run_dir.stop_file
        if file.exists():
            file.unlink(missing_ok=True)
            print_message(f"{file}: {'this file stopped the run; ' if outcome == 'stopped' else ''}removed")

    def _draw_curves(self) -> None:
        """Draw the loss curves; a failure is reported and changes nothing else."""
        try:
            drawn = draw_training_curves(self.run_dir.metrics, self.run_dir.figures / "losses.png")
        except (OSError, ImportError, ValueError, RuntimeError) as error:
            print_from_any_rank(f"{self.run_dir.path.name}: no curves drawn: {error}")
            return
        self.tracker.log_pictures(self.progress.step, {"losses": drawn})
