"""The training loop shared by all tasks."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import cast

import torch

from vqdist.data.loading.pipeline import DataPipeline
from vqdist.distributed.stop_requests import StopRequest
from vqdist.foundation.errors import DivergedError, StorageError
from vqdist.foundation.progress import print_from_any_rank, print_message
from vqdist.models.io import SavableModel, save_model
from vqdist.plotting.image_grids import save_png
from vqdist.runs.checkpoint import save_checkpoint
from vqdist.runs.run_dir import RunDir
from vqdist.runs.training_data import describe_shape
from vqdist.training.build import describe_data
from vqdist.training.recorder import Recorder
from vqdist.training.state import TrainingState, capture, resume
from vqdist.training.step import RankRequests, StepResult, train_step
from vqdist.training.step_feed import StepFeed
from vqdist.training.validation import evaluate_split

PREVIEW_SAMPLES = 8


@dataclass
class Run:
    """A training state with its data, its record and its directory."""

    state: TrainingState
    pipeline: DataPipeline
    recorder: Recorder
    run_dir: RunDir
    stop: StopRequest
    checkpoint_s: float = 0.0  # time of the last checkpoint, of time.monotonic


def train(run: Run) -> str:
    """Train from the step of the state to the end of the run, or to a stop.

    Returns:
        `finished` or `stopped`.
    Must be called by all ranks.
    """
    state, config = run.state, run.state.config
    progress = state.progress
    last_step = config.train.last_step
    run.checkpoint_s = time.monotonic()
    state.task.model.train()
    if progress.step == 0:
        progress.best_by = state.task.chosen_by
        state.task.initialize(run.pipeline, state.ranks)
    evaluation_was_due = progress.eval_due
    stopped = not _evaluate(run)
    if evaluation_was_due and not stopped:
        _save_checkpoint(run)
    feed = _open_feed(run)
    while progress.step < last_step and not progress.ended_early and not stopped:
        micro_batches = feed.take()
        prefetch = feed.prefetch if progress.step + 1 < last_step else None
        result = train_step(state, micro_batches, _collect_requests(run), while_queued=prefetch)
        run.recorder.record_step(micro_batches, result)
        if progress.bad_in_row >= config.train.max_bad_steps:
            _roll_back(run)
            feed = _open_feed(run)
            continue
        _report(run, result)
        stopped = result.requests.stop or not _evaluate(run)
        over = stopped or progress.ended_early or progress.step >= last_step
        due = result.requests.checkpoint or _is_due(progress.step, config.checkpoint.every_steps)
        # No checkpoint between non-finite steps: the run returns to the one before them.
        if over or (due and progress.bad_in_row == 0):
            _save_checkpoint(run, last=over)
    finished = progress.step >= config.train.max_steps or progress.ended_early
    return "finished" if finished and not progress.eval_due else "stopped"


def _open_feed(run: Run) -> StepFeed:
    state = run.state
    return StepFeed(run.pipeline.train_steps(state.progress.step), state.ranks.device, run.recorder.add_data_wait)


def _collect_requests(run: Run) -> RankRequests:
    """Return what this rank requests after the next step; rank 0 requests the checkpoints that are due by time."""
    minutes = run.state.config.checkpoint.every_minutes
    due = minutes is not None and time.monotonic() - run.checkpoint_s > minutes * 60
    return RankRequests(stop=_is_stop_requested(run), checkpoint=due and run.state.ranks.is_main)


def _is_stop_requested(run: Run) -> bool:
    if run.state.ranks.is_main:
        run.stop.check_file(run.run_dir.stop_file)
    return run.stop.reason is not None


def _is_due(step: int, every: int | None) -> bool:
    return every is not None and step % every == 0


def _report(run: Run, result: StepResult) -> None:
    """Write the train line and the preview that are due; the last step has both, and an evaluation."""
    config, progress = run.state.config, run.state.progress
    final = progress.step == config.train.max_steps
    if final or _is_due(progress.step, config.train.log_every):
        run.recorder.write_train_line(result)
    progress.eval_due = final or _is_due(progress.step, config.train.eval_every)
    if config.train.preview_every is not None and (final or _is_due(progress.step, config.train.preview_every)):
        _save_preview(run)


def _evaluate(run: Run) -> bool:
    """Evaluate if it is due, and save the model if it is the best so far; without a validate split, always.

    Returns:
        False if a stop was requested first: the evaluation stays due, and a resumed run begins with it.
    """
    state, progress = run.state, run.state.progress
    if not progress.eval_due:
        return True
    metrics: dict[str, float] | None = None
    if run.pipeline.has_split("validate"):
        before = time.perf_counter()
        metrics = evaluate_split(state, run.pipeline, "validate", interrupted=lambda: _is_stop_requested(run))
        if metrics is None:
            return False
        run.recorder.write_validate_line(metrics, time.perf_counter() - before)
    progress.eval_due = False
    better = metrics is None or _is_better(metrics[progress.best_by], progress.best_loss)
    if not better:
        progress.stale_evals += 1
        patience = state.config.train.patience
        progress.ended_early = patience is not None and progress.stale_evals >= patience
    elif _save_model(run, metrics):
        progress.best_loss = None if metrics is None else metrics[progress.best_by]
        progress.best_step, progress.stale_evals = progress.step, 0
    return True


def _is_better(loss: float, best: float | None) -> bool:
    return math.isfinite(loss) and (best is None or loss < best)


def _save_model(run: Run, metrics: dict[str, float] | None) -> bool:
    """Save the model; return whether it was written. Must be called by all ranks."""
    state, saved = run.state, False
    if state.ranks.is_main:
        final = state.progress.step == state.config.train.max_steps
        with (
            _handle_full_disk(run, "model", required=final),
            state.weight_ema.applied() if state.weight_ema else nullcontext(),
        ):
            save_model(
                cast(SavableModel, state.task.model),
                run.run_dir.model,
                step=state.progress.step,
                metrics=metrics,
                data=describe_data(state.task.manifest, state.config.model.attribute_names),
                vqvae_dir=state.task.vqvae_dir,
                check_owner=run.run_dir.check_owner,
            )
            saved = True
    return bool(state.ranks.broadcast_object(saved))


def _save_preview(run: Run) -> None:
    """Save a picture for fixed samples of the validate split. Rank 0 only; the others wait at the next step."""
    state = run.state
    if not state.ranks.is_main:
        return
    split = "validate" if run.pipeline.has_split("validate") else "train"
    batch = run.pipeline.examples(split, PREVIEW_SAMPLES).to(state.ranks.device)
    state.task.model.eval()
    with state.weight_ema.applied() if state.weight_ema else nullcontext(), torch.no_grad():
        picture = state.task.preview(batch)
    state.task.model.train()
    run.run_dir.check_owner()
    path = run.run_dir.preview(state.progress.step)
    with _handle_full_disk(run, "preview"):
        save_png(picture, path)
        run.recorder.record_preview(path)


def _save_checkpoint(run: Run, *, last: bool = False) -> None:
    """Write a checkpoint after the records of all ranks have reached the disk. Must be called by all ranks.

    Args:
        last: it is the last one of this process, so that a failure ends the run.
    """
    state, config = run.state, run.state.config
    run.checkpoint_s = time.monotonic()
    synced = False
    with _handle_full_disk(run, "metrics and ledger", required=last):
        run.recorder.sync()
        synced = True
    if config.data.ledger:
        synced = all(state.ranks.gather_objects(synced))
    if not (synced and state.ranks.is_main):
        return
    run.run_dir.check_owner()
    tensors, values = capture(state)
    manifest = run.pipeline.manifest
    values |= {"data_fingerprint": manifest.fingerprint, "data_shape": describe_shape(manifest)}
    with _handle_full_disk(run, "checkpoint", required=last):
        save_checkpoint(
            run.run_dir.checkpoints,
            state.progress.step,
            tensors=tensors,
            state=values,
            keep=config.checkpoint.keep,
            check_owner=run.run_dir.check_owner,
        )
        run.run_dir.write_status("running", state.progress.step)


@contextmanager
def _handle_full_disk(run: Run, what: str, *, required: bool = False) -> Iterator[None]:
    """End the run if a write fails, or report it and continue, as checkpoint.on_error says.

    Args:
        required: no later write can replace this one, so that a failure always ends the run.
    """
    try:
        yield
    except OSError as error:
        problem = f"{what} of step {run.state.progress.step} not written: {error}"
        if required or run.state.config.checkpoint.on_error == "raise":
            raise StorageError(f"{problem}; files written before are complete") from error
        print_from_any_rank(f"{problem}; the run continues")


def _roll_back(run: Run) -> None:
    """Return to the last checkpoint after too many consecutive non-finite steps; give up the second time.

    Raises:
        DivergedError: the run has diverged here before, or there is no checkpoint.
    """
    state, progress = run.state, run.state.progress
    step, before = progress.step, progress.rolled_back_at
    what = f"{progress.bad_in_row} consecutive steps up to step {step} were not finite"
    if before is not None and step <= before + state.config.train.max_bad_steps:
        raise DivergedError(f"{what}, again after returning to a checkpoint: lower optim.lr, or use fp32")
    if not resume(state, run.run_dir):
        raise DivergedError(f"{what} and there is no checkpoint to return to: lower optim.lr, or use fp32")
    progress.rolled_back_at = step
    run.recorder.close()
    print_message(f"{what}: back to the checkpoint of step {progress.step}")
    if state.ranks.is_main:
        run.run_dir.truncate_records(progress.step, eval_due=progress.eval_due)
    state.ranks.barrier()
    run.recorder.open()
