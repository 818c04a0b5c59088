"""Validation during training: means over a whole split, exact over ranks and ragged batches."""

from collections.abc import Callable
from contextlib import nullcontext

import torch

from vqdist.data.loading.batch import Batch
from vqdist.data.loading.pipeline import DataPipeline
from vqdist.foundation.command import print_from_any_rank
from vqdist.foundation.progress import print_from_any_rank
from vqdist.metrics.codes import codes_used, count_codes, perplexity
from vqdist.metrics.means import Means
from vqdist.training.state import Session


def evaluate_split(
    session: Session, feed: DataPipeline, split: str, *, interrupted: Callable[[], bool]
) -> dict[str, float] | None:
    """Return the mean of every loss term over a split, with the averaged weights where they are kept.

    Args:
        interrupted: asked on every rank after each batch; where one says yes, all end at once.
    Returns:
        None if it was interrupted.
    Collective: every rank, with its own share of the split.
    """
    inner, ranks = session.inner, session.ranks
    means, skipped = Means(), 0
    usage = None if session.usage is None else torch.zeros(session.usage.shape, dtype=torch.int64)
    batches = feed.split(split)
    inner.eval()
    try:
        with session.weight_ema.applied() if session.weight_ema else nullcontext(), torch.no_grad():
            while True:
                batch = next(batches, None)
                left, stop = ranks.any(batch is not None, interrupted())
                if not left:
                    break
                if stop:
                    return None
                if batch is not None:
                    skipped += len(batch.skipped)
                    _measure(session, batch, means, usage)
    finally:
        inner.train()
    total, total_skipped = Means(), 0
    for sums, count in ranks.gather_objects((means.sums, skipped)):
        total.merge(sums)
        total_skipped += count
    result = total.compute()
    if usage is not None:
        result |= describe_usage(ranks.all_reduce(usage.to(ranks.device)).cpu())
    if session.config.data.on_error == "skip":
        result["skipped_samples"] = total_skipped
    return result


def _measure(session: Session, batch: Batch, means: Means, usage: torch.Tensor | None) -> None:
    """Add a batch to the means and to the (K,) count of codes."""
    for damage in batch.skipped:
        print_from_any_rank(f"skipped {damage}")
    if batch.num_samples == 0:
        return
    with session.accelerator.autocast():
        losses = session.task.compute_losses(session.inner, batch.to(session.ranks.device), training=False)
    means.add(losses.terms)
    if usage is not None and losses.codes is not None:
        usage += count_codes(losses.codes, len(usage))


def describe_usage(usage: torch.Tensor) -> dict[str, float]:
    """Return perplexity and codes used of a (K,) count of codes; nothing where nothing was counted."""
    if usage.sum() == 0:
        return {}
    return {"perplexity": perplexity(usage), "codes_used": codes_used(usage)}
