"""One optimizer update over all ranks: forward, backward, one reduction of everything that must agree, update.

On a GPU the host waits once a step, after everything but the update of codebook and averages is queued: the optimizer
receives the flag that tells whether to skip the step as a tensor. Before, the ranks exchange their requests without the
GPU, so that a rank that has ended is an error and not a wait without end.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from vqdist.data.loading.batch import Batch
from vqdist.foundation.devices import copy_to_device, queues_work
from vqdist.foundation.seeds import derive_seed
from vqdist.training.optim import compute_lr, step_unless
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


def train_step(
    state: TrainingState,
    micro_batches: list[Batch],
    requests: RankRequests,
    *,
    while_queued: Callable[[], None] | None = None,
) -> StepResult:
    """Train on one global batch. Every sample has the same weight, whatever its rank and micro-batch.

    Must be called by all ranks, each with its share of the batch.

    Args:
        while_queued: called before the host waits for the device, for example to load the next batch.
    """
    config, progress, task = state.config, state.progress, state.task
    step = progress.step + 1
    lr = compute_lr(step, config.optim)
    for group in state.optimizer.param_groups:
        group["lr"] = lr
    task.begin_step(step)
    sums = _backward(state, micro_batches, step, _scale_loss(state, micro_batches))
    limit = config.optim.grad_clip
    grad_norm = state.accelerator.clip_grad_norm_(task.model.parameters(), limit or float("inf"))
    report = _reduce(state, micro_batches, sums, grad_norm, requests)

    queued = queues_work(state.ranks.device)
    if queued:
        step_unless(state.optimizer, report.is_bad)
    if while_queued is not None:
        while_queued()
    if queued:
        state.ranks.all_reduce(report.flags)  # on the CPU, where a rank that has ended is an error at once
    reduced = report.read()  # waits for the device
    if reduced.finite and not queued:
        state.optimizer.step()
    if state.accelerator.scaler is not None:
        state.accelerator.scaler.update()  # also after a skipped step, because its gradients were unscaled
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
    return StepResult(reduced.finite, reduced.grad_norm, lr, reduced.requests)


def settle_buckets(state: TrainingState, blank: Batch) -> None:
    """Let DDP order its gradient buckets before the first step.

    DDP orders them anew after the first backward pass of a process, and a sum over three or more ranks depends on the
    place of a number in its bucket; without this call a resumed run would differ from an uninterrupted one.

    Args:
        blank: a batch whose samples all have weight 0.
    Must be called by all ranks.
    """
    if state.ranks.world_size > 1:
        losses = state.task.losses(state.model, blank.to(state.ranks.device), training=True)
        state.accelerator.backward(losses.terms["loss"].sum() * 0.0)
        state.optimizer.zero_grad(set_to_none=True)


@dataclass(frozen=True)
class _Reduced:
    """Sums over all ranks."""

    finite: bool
    grad_norm: float
    sums: dict[str, float]
    samples: float
    skipped: int
    requests: RankRequests


@dataclass(frozen=True)
class _Report:
    """Sums over all ranks that are still on the device.

    Attributes:
        names: of the loss terms.
        values: sum of each loss term, and number of ranks whose values were not finite.
        grad_norm: (1,), of the summed gradient.
        flags: samples, skipped samples, and number of ranks that request a stop and a checkpoint, on the CPU; for a
            device that queues its work those of this rank, which are still to be summed.
    """

    names: list[str]
    values: Tensor
    grad_norm: Tensor
    flags: Tensor

    @property
    def is_bad(self) -> Tensor:
        """() float32: 1 if the step must be skipped, else 0."""
        return (self.values[-1] > 0).float()

    def read(self) -> _Reduced:
        """Return the values on the host. This is the only operation of a step that waits for the device."""
        *values, bad_ranks, grad_norm = torch.cat([self.values, self.grad_norm]).tolist()
        count, skipped, stop, checkpoint = self.flags.tolist()
        return _Reduced(
            finite=bad_ranks == 0,
            grad_norm=grad_norm,
            sums=dict(zip(self.names, values, strict=True)),
            samples=count,
            skipped=int(skipped),
            requests=RankRequests(stop > 0, checkpoint > 0),
        )


def _scale_loss(state: TrainingState, micro_batches: list[Batch]) -> float | Tensor:
    """Return the factor of a sum over this rank's samples that makes the average over ranks a mean over all samples.

    DDP averages over ranks. Damaged samples that are skipped do not count.
    """
    if state.config.data.on_error == "raise":
        return state.ranks.world_size / state.config.data.global_batch_size
    here = torch.tensor(float(sum(batch.num_samples for batch in micro_batches)))
    count = state.ranks.all_reduce(copy_to_device(here, state.ranks.device)).clamp_(min=1.0)
    return torch.full_like(count, state.ranks.world_size) / count


def _backward(
    state: TrainingState, micro_batches: list[Batch], step: int, loss_scale: float | Tensor
) -> dict[str, Tensor]:
    """Accumulate the gradients of this rank's share; return the sum of each loss term over its samples."""
    sums: dict[str, Tensor] = {}
    for number, batch in enumerate(micro_batches):
        last = number == len(micro_batches) - 1
        if batch.num_samples == 0 and not last:
            continue  # the last one must run, because its backward pass sums the gradients over the ranks
        torch.manual_seed(derive_seed(state.config.run.seed, "dropout", step, state.ranks.rank, number))
        with nullcontext() if last else state.accelerator.no_sync(state.model):
            placed = batch.to(state.ranks.device)
            terms = state.task.losses(state.model, placed, training=True).terms
            loss = (terms["loss"] * placed.weights).sum() * loss_scale
            state.accelerator.backward(loss)
        for name, term in terms.items():
            part = (term.detach().float() * placed.weights).sum()
            sums[name] = sums[name] + part if name in sums else part
    return sums


def _reduce(
    state: TrainingState,
    micro_batches: list[Batch],
    sums: dict[str, Tensor],
    grad_norm: Tensor,
    requests: RankRequests,
) -> _Report:
    """Sum the task's buffers, the loss terms and the flags over all ranks, in one reduction.

    A device that queues its work reduces no flags: `train_step` sums them on the CPU.
    """
    names = sorted(sums)
    samples = sum(batch.num_samples for batch in micro_batches)
    skipped = sum(len(batch.skipped) for batch in micro_batches)
    flags = torch.tensor([float(samples), float(skipped), float(requests.stop), float(requests.checkpoint)])
    here = torch.stack([*(sums[name] for name in names), grad_norm.float()])
    terms, norm = here.split([len(names), 1])
    values = torch.cat([terms, (~here.isfinite().all()).float().view(1)])
    buffers = state.task.buffers_to_reduce()
    if state.ranks.world_size > 1:
        reduced = [values, *([] if queues_work(here.device) else [flags]), *buffers]
        flat = state.ranks.all_reduce(torch.cat([tensor.flatten() for tensor in reduced]))
        for tensor, part in zip(reduced, flat.split([tensor.numel() for tensor in reduced]), strict=True):
            tensor.copy_(part.view_as(tensor))
    return _Report(names, values, norm, flags)
