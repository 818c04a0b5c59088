"""Validation during training: means over a whole split, exact for any number of ranks and ragged batches."""

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor

from vqdist.data.loading.batch import Batch
from vqdist.data.loading.pipeline import DataPipeline
from vqdist.foundation.progress import print_from_any_rank
from vqdist.metrics.means import Means
from vqdist.training.state import TrainingState


def evaluate_split(
    state: TrainingState, pipeline: DataPipeline, split: str, *, interrupted: Callable[[], bool]
) -> dict[str, float] | None:
    """Return the mean of every loss term over a split, with the averaged weights if the run keeps them.

    Args:
        interrupted: called on every rank after each batch; if one rank returns True, all end at once.
    Returns:
        The metrics, or None if interrupted.
    Must be called by all ranks, each with its share of the split.
    """
    task, ranks = state.task, state.ranks
    means, totals, skipped = Means(), dict[str, Tensor](), 0
    batches = pipeline.split(split)
    task.model.eval()
    try:
        with state.weight_ema.applied() if state.weight_ema else nullcontext(), torch.no_grad():
            while True:
                batch = next(batches, None)
                left, stop = ranks.any(batch is not None, interrupted())
                if not left:
                    break
                if stop:
                    return None
                if batch is not None:
                    skipped += len(batch.skipped)
                    _add_batch(state, batch, means, totals)
    finally:
        task.model.train()
    mean, sums, total_skipped = Means(), dict[str, Tensor](), 0
    for rank_sums, rank_totals, rank_skipped in ranks.gather_objects((means.sums, totals, skipped)):
        mean.merge(rank_sums)
        for name, total in rank_totals.items():
            sums[name] = sums[name] + total if name in sums else total
        total_skipped += rank_skipped
    result = mean.compute() | (task.metrics(sums) if sums else {})
    if state.config.data.on_error == "skip":
        result["skipped_samples"] = total_skipped
    return result


def _add_batch(state: TrainingState, batch: Batch, means: Means, totals: dict[str, Tensor]) -> None:
    for damage in batch.skipped:
        print_from_any_rank(f"skipped {damage}")
    if batch.num_samples == 0:
        return
    with state.accelerator.autocast():
        losses = state.task.losses(state.task.model, batch.to(state.ranks.device), training=False)
    means.add(losses.terms)
    for name, total in losses.totals.items():
        totals[name] = totals[name] + total.cpu() if name in totals else total.cpu()
