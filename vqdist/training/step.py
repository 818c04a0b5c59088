"""One optimizer update over all ranks: forward, backward, one sum of everything that must be agreed, commit."""

from contextlib import nullcontext
from dataclasses import dataclass

import torch

from vqdist.data.augmentation import augment
from vqdist.data.loading.batch import Batch
from vqdist.foundation.seeds import derive_seed
from vqdist.training.optim import compute_lr
from vqdist.training.state import Session


@dataclass(frozen=True)
class RankRequests:
    """What a rank wants of all ranks after this step; a wish of one is granted to it by all."""

    stop: bool = False
    checkpoint: bool = False


@dataclass(frozen=True)
class StepResult:
    """What all ranks know alike after a step.

    Attributes:
        finite: loss and gradient were finite on all ranks; else the step was skipped on all.
        grad_norm: norm of the summed gradient before clipping.
        wishes: what any rank wished for.
    """

    finite: bool
    grad_norm: float
    lr: float
    wishes: RankRequests


def train_step(session: Session, micro_batches: list[Batch], wishes: RankRequests) -> StepResult:
    """Train on one global batch; every sample weighs the same, whatever rank and micro-batch it lies in.

    Collective: every rank, with its own share of the batch.
    """
    config, progress = session.config, session.progress
    step = progress.step + 1
    lr = compute_lr(step, config.optim)
    for group in session.optimizer.param_groups:
        group["lr"] = lr
    quantizer = session.quantizer
    if quantizer is not None:
        quantizer.plan_restarts(config.run.seed, step, config.data.global_batch_size)

    totals = _backward(session, micro_batches, step, _count_samples(session, micro_batches))
    grad_norm = _clip(session)
    agreed = _agree(session, micro_batches, totals, grad_norm, wishes)

    overflowed = session.accelerator.scaler is not None and not grad_norm.isfinite()
    if agreed.finite or overflowed:
        session.optimizer.step()  # in fp16 the scaler skips a step that overflowed, and learns from it
    session.optimizer.zero_grad(set_to_none=True)
    if agreed.finite:
        if quantizer is not None:
            assert session.usage is not None
            session.usage += quantizer.pending_counts.to(session.usage)
            quantizer.commit()
        if session.weight_ema is not None:
            session.weight_ema.update(step)
        progress.add(agreed.totals, agreed.count)
    elif quantizer is not None:
        quantizer.discard()
    progress.bad_in_row = 0 if agreed.finite else progress.bad_in_row + 1
    progress.bad_steps += not agreed.finite
    progress.skipped_samples += agreed.skipped
    progress.step = step
    return StepResult(agreed.finite, float(grad_norm), lr, agreed.wishes)


def settle(session: Session, blank: Batch) -> None:
    """Let DDP lay out its buckets now, and not after the first step.

    It orders them anew after the first backward pass of a process, and the sum over three ranks or more depends on
    where a number lies; without this a run that was resumed would not have the bits of one that never stopped.

    Args:
        blank: any batch; nothing is learned from it.
    Collective: every rank, before the first step.
    """
    if session.ranks.world_size == 1:
        return
    losses = session.task.compute_losses(session.model, _place(session, blank, step=0), training=True)
    session.accelerator.backward(losses.terms["loss"].sum() * 0.0)
    session.optimizer.zero_grad(set_to_none=True)
    if session.quantizer is not None:
        session.quantizer.discard()


@dataclass(frozen=True)
class _Agreement:
    finite: bool
    totals: dict[str, float]
    count: float
    skipped: int
    wishes: RankRequests


def _count_samples(session: Session, micro_batches: list[Batch]) -> float:
    """Return the samples of the global batch; only damaged ones left out make it another number than G."""
    if session.config.data.on_error == "raise":
        return session.config.data.global_batch_size
    count = torch.tensor([float(sum(batch.num_samples for batch in micro_batches))], device=session.ranks.device)
    return max(session.ranks.all_reduce(count).item(), 1.0)


def _backward(session: Session, micro_batches: list[Batch], step: int, count: float) -> dict[str, torch.Tensor]:
    """Add up the gradients of this rank's share and return the sum of each loss term over its samples."""
    totals: dict[str, torch.Tensor] = {}
    ranks, quantizer = session.ranks, session.quantizer
    for number, batch in enumerate(micro_batches):
        last = number == len(micro_batches) - 1
        if batch.num_samples == 0 and not last:
            continue
        torch.manual_seed(derive_seed(session.config.run.seed, "dropout", step, ranks.rank, number))
        kept = [tensor.clone() for tensor in quantizer.pending] if quantizer and batch.num_samples == 0 else None
        # The gradients of the ranks are summed in the last backward alone.
        with nullcontext() if last else session.accelerator.no_sync(session.model):
            losses = session.task.compute_losses(session.model, _place(session, batch, step), training=True)
            # DDP takes the mean over ranks; times W and over the global count it is the mean over samples.
            weight = ranks.world_size / count if batch.num_samples else 0.0
            session.accelerator.backward(losses.terms["loss"].sum() * weight)
        if kept is not None and quantizer is not None:
            for tensor, before in zip(quantizer.pending, kept, strict=True):
                tensor.copy_(before)
        for name, term in losses.terms.items():
            part = term.detach().float().sum() if batch.num_samples else term.detach().new_zeros(()).float()
            totals[name] = totals[name] + part if name in totals else part
    return totals


def _place(session: Session, batch: Batch, step: int) -> Batch:
    """Return a micro-batch on the device, as it is trained on."""
    data = session.config.data
    if data.mirror != "none" or data.crop is not None:
        batch = augment(batch, data, seed=session.config.run.seed, step=step)
    return batch.to(session.ranks.device)


def _clip(session: Session) -> torch.Tensor:
    limit = session.config.optim.grad_clip
    return session.accelerator.clip_grad_norm_(session.inner.parameters(), limit or float("inf"))


def _agree(
    session: Session,
    micro_batches: list[Batch],
    totals: dict[str, torch.Tensor],
    grad_norm: torch.Tensor,
    wishes: RankRequests,
) -> _Agreement:
    """Sum the codebook's statistics, the loss terms and the flags over all ranks, in one reduction."""
    names = sorted(totals)
    skipped = sum(len(batch.skipped) for batch in micro_batches)
    flags = [
        float(sum(batch.num_samples for batch in micro_batches)),
        float(skipped),
        float(wishes.stop),
        float(wishes.checkpoint),
    ]
    here = torch.stack([totals[name] for name in names])
    bad = ~(here.isfinite().all() & grad_norm.isfinite())
    report = torch.cat([here, bad.float().view(1), here.new_tensor(flags)])
    pending = session.quantizer.pending if session.quantizer is not None else []
    if session.ranks.world_size > 1:
        flat = session.ranks.all_reduce(torch.cat([report, *(tensor.flatten() for tensor in pending)]))
        report, *parts = flat.split([len(report), *(tensor.numel() for tensor in pending)])
        for tensor, part in zip(pending, parts, strict=True):
            tensor.copy_(part.view_as(tensor))
    *values, bad_ranks, count, skipped_samples, stop, checkpoint = report.tolist()
    return _Agreement(
        finite=bad_ranks == 0,
        totals=dict(zip(names, values, strict=True)),
        count=count,
        skipped=int(skipped_samples),
        wishes=RankRequests(stop > 0, checkpoint > 0),
    )
