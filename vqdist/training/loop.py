"""The one training loop, for both tasks: read from top to bottom, it is what a run does."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from vqdist.data.loading.batch import Batch, to_images
from vqdist.data.loading.pipeline import DataPipeline
from vqdist.distributed.stop_requests import StopRequest
from vqdist.foundation.errors import DivergedError, StorageError
from vqdist.foundation.progress import print_from_any_rank
from vqdist.models.io import save_model
from vqdist.models.model_card import DataDescription
from vqdist.plotting.image_grids import save_png
from vqdist.runs.checkpoint import save_checkpoint
from vqdist.runs.run_dir import RunDir
from vqdist.training.recorder import Recorder
from vqdist.training.state import Session, capture, resume
from vqdist.training.step import RankRequests, StepResult, train_step
from vqdist.training.tasks.tasks import PREVIEW_MAPS
from vqdist.training.validation import evaluate_split

FIRST_CODES_BATCH = 16
FIRST_LATENTS_PER_CODE = 16


@dataclass
class Run:
    """A session with its data, its record and its directory.

    Attributes:
        companion: the VQ-VAE that a prior's codes came from, for previews; None in stage 1.
        companion_dir: where that VQ-VAE is saved; it travels with the prior.
        data_description: facts about the dataset that are saved with the model.
    """

    session: Session
    feed: DataPipeline
    recorder: Recorder
    run_dir: RunDir
    stop: StopRequest
    companion: nn.Module | None
    companion_dir: Path | None
    data_description: DataDescription
    saved_at: float = 0.0


def train(run: Run) -> str:
    """Train from where the session stands to the end, or to a stop.

    Returns:
        `finished` or `stopped`.
    Collective: every rank.
    """
    session, config = run.session, run.session.config
    progress = session.progress
    last_step = min(config.train.max_steps, config.train.stop_at_step or config.train.max_steps)
    run.saved_at = time.monotonic()
    session.inner.train()
    if progress.step == 0:
        _set_first_codes(run)
    evaluating = progress.eval_due
    stopped = not _evaluate(run)
    if evaluating and not stopped:
        _checkpoint(run)
    steps = run.feed.train_steps(progress.step)
    while progress.step < last_step and not progress.ended_early and not stopped:
        micro_batches = _next_step(run, steps)
        result = train_step(session, micro_batches, _wishes(run))
        run.recorder.trained(micro_batches, result)
        if progress.bad_in_row >= config.train.max_bad_steps:
            _go_back(run)
            progress = session.progress
            steps = run.feed.train_steps(progress.step)
            continue
        _report(run, result)
        stopped = result.wishes.stop or not _evaluate(run)
        over = stopped or progress.ended_early or progress.step >= last_step
        due = result.wishes.checkpoint or _is_due(progress.step, config.checkpoint.every_steps)
        # None between bad steps: it is to the one before them that the run goes back.
        if over or (due and progress.bad_in_row == 0):
            _checkpoint(run, last=over)
    finished = progress.step >= config.train.max_steps or progress.ended_early
    return "finished" if finished and not progress.eval_due else "stopped"


def _next_step(run: Run, steps: Iterator[list[Batch]]) -> list[Batch]:
    before = time.perf_counter()
    micro_batches = next(steps)
    run.recorder.waited(time.perf_counter() - before)
    return micro_batches


def _wishes(run: Run) -> RankRequests:
    """What this rank wants after the step to come; a checkpoint that is due by time is rank 0's to call."""
    minutes = run.session.config.checkpoint.every_minutes
    due = minutes is not None and time.monotonic() - run.saved_at > minutes * 60
    return RankRequests(stop=_is_asked_to_stop(run), checkpoint=due and run.session.ranks.is_main)


def _is_asked_to_stop(run: Run) -> bool:
    if run.session.ranks.is_main:
        run.stop.check_file(run.run_dir.path)
    return run.stop.reason is not None


def _is_due(step: int, every: int | None) -> bool:
    return every is not None and step % every == 0


def _report(run: Run, result: StepResult) -> None:
    """The train line when it is due; the last step has one, and an evaluation."""
    session, config = run.session, run.session.config
    step = session.progress.step
    final = step == config.train.max_steps
    if final or _is_due(step, config.train.log_every):
        run.recorder.train_line(result)
    session.progress.eval_due = final or _is_due(step, config.train.eval_every)
    if config.train.preview_every is not None and (final or _is_due(step, config.train.preview_every)):
        _preview(run)


def _evaluate(run: Run) -> bool:
    """Evaluate if it is due, and keep the model where it is the best so far; without a validate split, the newest.

    Returns:
        False if a stop came first: the evaluation stays due, and is the first that the run does when it goes on.
    """
    session, progress = run.session, run.session.progress
    if not progress.eval_due:
        return True
    metrics: dict[str, float] | None = None
    if run.feed.has_split("validate"):
        before = time.perf_counter()
        metrics = evaluate_split(session, run.feed, "validate", interrupted=lambda: _is_asked_to_stop(run))
        if metrics is None:
            return False
        run.recorder.validate_line(metrics, time.perf_counter() - before)
    progress.eval_due = False
    better = metrics is None or _is_better(metrics["loss"], progress.best_loss)
    if not better:
        progress.stale_evals += 1
        patience = session.config.train.patience
        progress.ended_early = patience is not None and progress.stale_evals >= patience
    elif _save_model(run, metrics):
        progress.best_loss = None if metrics is None else metrics["loss"]
        progress.best_step, progress.stale_evals = progress.step, 0
    return True


def _is_better(loss: float, best: float | None) -> bool:
    return math.isfinite(loss) and (best is None or loss < best)


def _save_model(run: Run, metrics: dict[str, float] | None) -> bool:
    """Write the model; tell whether it could be written. Collective."""
    session, saved = run.session, False
    if session.ranks.is_main:
        final = session.progress.step == session.config.train.max_steps
        with (
            _writing(run, "model", needed=final),
            session.weight_ema.applied() if session.weight_ema else nullcontext(),
        ):
            save_model(
                session.inner,
                run.run_dir.path / "model",
                step=session.progress.step,
                metrics=metrics,
                data=run.data_description,
                vqvae_dir=run.companion_dir,
                check_owner=run.run_dir.check_owner,
            )
            saved = True
    return bool(session.ranks.broadcast_object(saved))


def _preview(run: Run) -> None:
    """Draw pictures of fixed samples of the validate split. Rank 0 alone; the others wait at the next step."""
    session = run.session
    if not session.ranks.is_main:
        return
    split = "validate" if run.feed.has_split("validate") else "train"
    batch = run.feed.examples(split, PREVIEW_MAPS).to(session.ranks.device)
    session.inner.eval()
    with session.weight_ema.applied() if session.weight_ema else nullcontext(), torch.no_grad():
        picture = session.task.preview(session.inner, batch, run.companion, session.config.run.seed)
    session.inner.train()
    run.run_dir.check_owner()
    path = run.run_dir.path / "previews" / f"step-{session.progress.step:08d}.png"
    with _writing(run, "preview"):
        save_png(picture, path)
        run.recorder.preview(path)


def _checkpoint(run: Run, *, last: bool = False) -> None:
    """Write a checkpoint, once every rank's record is safe; the last of this process must succeed. Collective."""
    session, config = run.session, run.session.config
    run.saved_at = time.monotonic()
    safe = False
    with _writing(run, "metrics and ledger", needed=last):
        run.recorder.sync()
        safe = True
    if config.data.ledger:
        safe = all(session.ranks.gather_objects(safe))
    if not (safe and session.ranks.is_main):
        return
    run.run_dir.check_owner()
    tensors, state = capture(session)
    state["data_fingerprint"] = run.feed.manifest.fingerprint
    with _writing(run, "checkpoint", needed=last):
        save_checkpoint(
            run.run_dir.path / "checkpoints",
            session.progress.step,
            tensors=tensors,
            state=state,
            keep=config.checkpoint.keep,
            check_owner=run.run_dir.check_owner,
        )
        run.run_dir.write_status("running", session.progress.step)


@contextmanager
def _writing(run: Run, what: str, *, needed: bool = False) -> Iterator[None]:
    """Let a disk that takes no more end the run, or this write alone, as checkpoint.on_error says.

    Args:
        needed: nothing comes after it that could make up for it, so that it ends the run in any case.
    """
    try:
        yield
    except OSError as error:
        problem = f"{what} of step {run.session.progress.step} not written: {error}"
        if needed or run.session.config.checkpoint.on_error == "raise":
            raise StorageError(f"{problem}; what was written before is whole") from error
        print_from_any_rank(f"{problem}; the run goes on")


def _go_back(run: Run) -> None:
    """After too many non-finite steps in a row: once back to the last checkpoint, then give up.

    Raises:
        DivergedError: the run has been here before, or there is no checkpoint.
    """
    session, progress = run.session, run.session.progress
    step, before = progress.step, progress.rolled_back_at
    what = f"{progress.bad_in_row} steps in a row up to step {step} were not finite"
    if before is not None and step <= before + session.config.train.max_bad_steps:
        raise DivergedError(f"{what}, again after going back to a checkpoint: lower optim.lr, or use fp32")
    if not resume(session, run.run_dir):
        raise DivergedError(f"{what} and there is no checkpoint to go back to: lower optim.lr, or use fp32")
    session.progress.rolled_back_at = step
    run.recorder.close()
    if session.ranks.is_main:
        print_from_any_rank(f"{what}: back to the checkpoint of step {session.progress.step}")
        run.run_dir.cut_records(session.progress.step, eval_due=session.progress.eval_due)
    session.ranks.barrier()
    run.recorder.open()


def _set_first_codes(run: Run) -> None:
    """Take the first codes from the first samples of the order; the same whatever the world size."""
    session = run.session
    quantizer = session.quantizer
    if quantizer is None or bool(quantizer.initialized):
        return
    if session.ranks.is_main:
        side = session.inner.grid(*run.feed.manifest.image_size)  # type: ignore[operator]
        enough = -(-FIRST_LATENTS_PER_CODE * quantizer.num_codes // (side[0] * side[1]))
        count = max(enough, session.config.data.global_batch_size)
        latents = []
        with torch.no_grad():
            for batch in run.feed.first_samples(count, FIRST_CODES_BATCH):
                found = session.inner.latents(to_images(batch.to(session.ranks.device).values))  # type: ignore[operator]
                latents.append(found.permute(0, 2, 3, 1).flatten(0, 2))
        quantizer.initialize(torch.cat(latents), session.config.run.seed)
    for tensor in (quantizer.codebook, quantizer.counts, quantizer.initialized):
        session.ranks.broadcast(tensor.data)
