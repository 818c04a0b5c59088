"""One optimizer update over all ranks: forward, backward, one reduction of everything that must agree, update."""

from contextlib import nullcontext
from dataclasses import dataclass

import torch

from vqdist.data.augmentation import augment
from vqdist.data.loading.batch import Batch
from vqdist.foundation.seeds import derive_seed
from vqdist.training.optim import compute_lr
from vqdist.training.state import TrainingState


@dataclass(frozen=True)
class RankRequests:
    """What a rank requests of all ranks after a step. A request of any rank applies to all ranks."""

    stop: bool = False
    checkpoint: bool = False


@dataclass(frozen=True)
class StepResult:
    """The result of a step, equal on all ranks.

    Attributes:
        finite: losses and gradient were finite on all ranks; otherwise the step was skipped on all.
        grad_norm: norm of the summed gradient before clipping.
        requests: the requests of any rank.
    """

    finite: bool
    grad_norm: float
    lr: float
    requests: RankRequests


def train_step(state: TrainingState, micro_batches: list[Batch], requests: RankRequests) -> StepResult:
    """Train on one global batch. Every sample has the same weight, whatever its rank and micro-batch.

    Must be called by all ranks, each with its share of the batch.
    """
    config, progress, task = state.config, state.progress, state.task
    step = progress.step + 1
    lr = compute_lr(step, config.optim)
    for group in state.optimizer.param_groups:
        group["lr"] = lr
    task.begin_step(step)
    sums = _backward(state, micro_batches, step, _count_samples(state, micro_batches))
    limit = config.optim.grad_clip
    grad_norm = state.accelerator.clip_grad_norm_(task.model.parameters(), limit or float("inf"))
    reduced = _reduce(state, micro_batches, sums, grad_norm, requests)

    overflowed = state.accelerator.scaler is not None and not grad_norm.isfinite()
    if reduced.finite or overflowed:
        state.optimizer.step()  # in fp16 the scaler skips a step that overflowed, and lowers its scale
    state.optimizer.zero_grad(set_to_none=True)
    task.end_step(reduced.finite)
    if reduced.finite:
        if state.weight_ema is not None:
            state.weight_ema.update(step)
        progress.add(reduced.sums, reduced.samples)
    progress.bad_in_row = 0 if reduced.finite else progress.bad_in_row + 1
    progress.bad_steps += not reduced.finite
    progress.skipped_samples += reduced.skipped
    progress.step = step
    return StepResult(reduced.finite, float(grad_norm), lr, reduced.requests)


def settle_buckets(state: TrainingState, blank: Batch) -> None:
    """Let DDP order its gradient buckets before the first step.

    DDP orders them anew after the first backward pass of a process, and a sum over three or more ranks depends on the
    place of a number in its bucket; without this call a resumed run would differ from an uninterrupted one.

    Args:
        blank: a batch whose samples all have weight 0.
    Must be called by all ranks.
    """
    if state.ranks.world_size > 1:
        losses = state.task.losses(state.model, _place(state, blank, step=0), training=True)
        state.accelerator.backward(losses.terms["loss"].sum() * 0.0)
        state.optimizer.zero_grad(set_to_none=True)


@dataclass(frozen=True)
class _Reduced:
    """Sums over all ranks."""

    finite: bool
    sums: dict[str, float]
    samples: float
    skipped: int
    requests: RankRequests


def _count_samples(state: TrainingState, micro_batches: list[Batch]) -> float:
    """Return the number of samples in the global batch, without damaged samples that are skipped."""
    if state.config.data.on_error == "raise":
        return state.config.data.global_batch_size
    count = torch.tensor([float(sum(batch.num_samples for batch in micro_batches))], device=state.ranks.device)
    return max(state.ranks.all_reduce(count).item(), 1.0)


def _backward(state: TrainingState, micro_batches: list[Batch], step: int, samples: float) -> dict[str, torch.Tensor]:
    """Accumulate the gradients of this rank's share; return the sum of each loss term over its samples."""
    sums: dict[str, torch.Tensor] = {}
    for number, batch in enumerate(micro_batches):
        last = number == len(micro_batches) - 1
        if batch.num_samples == 0 and not last:
            continue  # the last one must run, because its backward pass sums the gradients over the ranks
        torch.manual_seed(derive_seed(state.config.run.seed, "dropout", step, state.ranks.rank, number))
        with nullcontext() if last else state.accelerator.no_sync(state.model):
            placed = _place(state, batch, step)
            terms = state.task.losses(state.model, placed, training=True).terms
            # DDP averages over ranks: times the world size over the global count it is the mean over samples.
            loss = (terms["loss"] * placed.weights).sum() * (state.ranks.world_size / samples)
            state.accelerator.backward(loss)
        for name, term in terms.items():
            part = (term.detach().float() * placed.weights).sum()
            sums[name] = sums[name] + part if name in sums else part
    return sums


def _place(state: TrainingState, batch: Batch, step: int) -> Batch:
    """Return a micro-batch on the device, augmented."""
    data = state.config.data
    if data.mirror != "none" or data.crop is not None:
        batch = augment(batch, data, seed=state.config.run.seed, step=step)
    return batch.to(state.ranks.device)


def _reduce(
    state: TrainingState,
    micro_batches: list[Batch],
    sums: dict[str, torch.Tensor],
    grad_norm: torch.Tensor,
    requests: RankRequests,
) -> _Reduced:
    """Sum the task's buffers, the loss terms and the flags over all ranks, in one reduction."""
    names = sorted(sums)
    samples = sum(batch.num_samples for batch in micro_batches)
    skipped = sum(len(batch.skipped) for batch in micro_batches)
    flags = [float(samples), float(skipped), float(requests.stop), float(requests.checkpoint)]
    here = torch.stack([sums[name] for name in names])
    bad = ~(here.isfinite().all() & grad_norm.isfinite())
    report = torch.cat([here, bad.float().view(1), here.new_tensor(flags)])
    buffers = state.task.buffers_to_reduce()
    if state.ranks.world_size > 1:
        flat = state.ranks.all_reduce(torch.cat([report, *(tensor.flatten() for tensor in buffers)]))
        report, *parts = flat.split([len(report), *(tensor.numel() for tensor in buffers)])
        for tensor, part in zip(buffers, parts, strict=True):
            tensor.copy_(part.view_as(tensor))
    *values, bad_ranks, count, skipped_samples, stop, checkpoint = report.tolist()
    return _Reduced(
        finite=bad_ranks == 0,
        sums=dict(zip(names, values, strict=True)),
        samples=count,
        skipped=int(skipped_samples),
        requests=RankRequests(stop > 0, checkpoint > 0),
    )
