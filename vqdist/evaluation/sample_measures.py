"""Metrics of each sample of a split, computed by all ranks."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor

from vqdist.data.loading.batch import Batch
from vqdist.distributed.process_group import Ranks
from vqdist.evaluation.pass_progress import show_pass
from vqdist.inference.split_loader import Numbers, SplitLoader
from vqdist.inference.work_sharing import map_batches

SampleValues = dict[str, npt.NDArray[np.float64]]  # metric -> (N,) value of each sample, in the order of the split


def measure_samples(
    split: SplitLoader,
    measure: Callable[[Batch], dict[str, Tensor]],
    ranks: Ranks,
    batches: Sequence[Numbers] | None = None,
    *,
    label: str | None = None,
) -> SampleValues:
    """Return the metrics of each sample of a split, on every rank. Must be called by all ranks.

    Args:
        measure: batch on the device -> metric -> (B,) values.
        batches: numbers of the samples to measure, in batches; None for all.
        label: of the progress bar.
    """

    def work(batch: Batch) -> SampleValues:
        return {name: value.cpu().double().numpy() for name, value in measure(batch.to(ranks.device)).items()}

    loaded = split.load_all(ranks) if batches is None else split.load_batches(batches, ranks)
    total = len(split) if batches is None else sum(map(len, batches))
    shown = show_pass(loaded, total, ranks, label=label or f"evaluate {split.name}", size=len)
    found = map_batches(ranks, shown, work)
    return {name: np.concatenate([values[name] for values in found]) for name in found[0]}
