"""Bootstrap confidence intervals over subjects."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Interval(NamedTuple):
    """A mean and its 95 % confidence interval; `low` and `high` are None with fewer than two subjects."""

    mean: float
    low: float | None
    high: float | None


def bootstrap_subjects(
    values: Sequence[float] | np.ndarray, subjects: Sequence[str], *, seed: int = 0, resamples: int = 10_000
) -> Interval:
    """Compute the mean over all samples and its percentile interval, resampling whole subjects with replacement.

    Slices of one subject are correlated, so an interval over slices would be too narrow. The result does not depend
    on the order of the samples.

    Args:
        values: shape (N,), one value per sample.
        subjects: shape (N,), the subject of each sample.
    """
    array = np.asarray(values, dtype=np.float64)
    names, index = np.unique(np.asarray(subjects), return_inverse=True)
    sums = np.bincount(index, weights=array)
    counts = np.bincount(index)
    mean = float(sums.sum() / counts.sum())
    if len(names) < 2:
        return Interval(mean, None, None)
    drawn = np.random.default_rng(seed).integers(len(names), size=(resamples, len(names)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(mean, float(low), float(high))
