"""Validation during training: means over a whole split, exact over ranks and ragged batches."""

from contextlib import nullcontext

import torch

from vqdist.data.feed import Feed
from vqdist.metrics import Means, codes_used, count_codes, perplexity
from vqdist.training.state import Session


def evaluate_split(session: Session, feed: Feed, split: str) -> dict[str, float]:
    """Return the mean of every loss term over a split, with the averaged weights where they are kept.

    Collective: every rank, with its own share of the split.
    """
    inner, ranks = session.inner, session.ranks
    means = Means()
    usage = None if session.usage is None else torch.zeros(session.usage.shape, dtype=torch.int64)
    inner.eval()
    with session.weight_ema.applied() if session.weight_ema else nullcontext(), torch.no_grad():
        for batch in feed.split(split):
            if len(batch) == 0:
                continue
            with session.accelerator.autocast():
                losses = session.task.compute_losses(inner, batch.to(ranks.device), training=False)
            means.add(losses.terms)
            if usage is not None and losses.codes is not None:
                usage += count_codes(losses.codes, len(usage))
    inner.train()
    total = Means()
    for sums in ranks.gather_objects(means.sums):
        total.merge(sums)
    result = total.compute()
    if usage is not None:
        result |= describe_usage(ranks.all_reduce(usage.to(ranks.device)).cpu())
    return result


def describe_usage(usage: torch.Tensor) -> dict[str, float]:
    """Return perplexity and codes used of a (K,) count of codes; nothing where nothing was counted."""
    if usage.sum() == 0:
        return {}
    return {"perplexity": perplexity(usage), "codes_used": codes_used(usage)}
