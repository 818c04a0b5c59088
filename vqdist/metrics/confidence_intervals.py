"""95 % confidence intervals over subjects: of a mean, of a paired difference, and of any figure of whole sets.

Slices of one subject are correlated, so an interval over slices would be too narrow. A percentile bootstrap over few
subjects is too narrow as well (over 3 subjects it contains the true mean in 76 % of cases): below BOOTSTRAP_SUBJECTS
the interval is that of Student's t, and below MIN_SUBJECTS there is none.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

MIN_SUBJECTS = 3
BOOTSTRAP_SUBJECTS = 20
FEW_SUBJECTS = f"no interval below {MIN_SUBJECTS} subjects"
_RESAMPLES = 10_000
# The 97.5th percentile of Student's t for 1, 2, ... degrees of freedom.
_T = (
    *(12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281),
    *(2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860),
)
_Z = 1.959964
_LEAST_SHARE = 1e-3  # of log-odds, which are infinite at 0 and 1

Values = Sequence[float] | npt.NDArray[np.floating]
Summary = dict[str, float | None]  # mean, low, high


class Interval(NamedTuple):
    """A figure and its 95 % confidence interval; `low` and `high` are None with fewer than three subjects."""

    mean: float
    low: float | None
    high: float | None


def to_summary(interval: Interval | None) -> Summary:
    """Return an interval as JSON values; None for what does not exist or is not a finite number."""
    if interval is None:
        return {"mean": None, "low": None, "high": None}
    values = interval._asdict()
    return {name: value if value is not None and np.isfinite(value) else None for name, value in values.items()}


def subject_interval(
    values: Values, subjects: Sequence[str], *, seed: int = 0, resamples: int = _RESAMPLES
) -> Interval:
    """Return the mean over all samples and its interval over subjects. It does not depend on the order of the samples.

    With n subjects, n below BOOTSTRAP_SUBJECTS, the interval is mean +- t s / sqrt(n), t of n - 1 degrees of freedom
    and s the deviation of the subjects; if these have different numbers of samples, s is that of the ratio estimator
    (Cochran 1977, eq. 2.39). With more subjects, it is the percentile interval of a bootstrap of whole subjects.

    Args:
        values: (N,) value of each sample.
        subjects: (N,) subject of each sample.
    """
    array = np.asarray(values, dtype=np.float64)
    names, index = np.unique(np.asarray(subjects), return_inverse=True)
    sums, counts = np.bincount(index, weights=array), np.bincount(index)
    mean, total = float(sums.sum() / counts.sum()), len(names)
    if total < MIN_SUBJECTS or not np.isfinite(mean):
        return Interval(mean, None, None)
    if total < BOOTSTRAP_SUBJECTS:
        residuals = (sums - mean * counts) / counts.mean()
        half = t_quantile(total - 1) * float(np.sqrt((residuals**2).sum() / (total * (total - 1))))
        return Interval(mean, mean - half, mean + half)
    drawn = np.random.default_rng(seed).integers(total, size=(resamples, total))
    low, high = np.percentile(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1), [2.5, 97.5])
    return Interval(mean, float(low), float(high))


def paired_difference(first: Values, second: Values, subjects: Sequence[str]) -> Interval:
    """Return the mean of first - second over the same samples, and its interval over subjects.

    The difference between subjects, which is common to both, does not widen it.
    """
    return subject_interval(np.asarray(first, np.float64) - np.asarray(second, np.float64), subjects)


def jackknife_interval(figure: Callable[[npt.NDArray[np.float64]], float], *groups: int) -> Interval:
    """Return a figure of several sets of subjects and its interval, from the figures without one subject each.

    The variance is the sum of the jackknife variances of the sets (Efron and Stein 1981), the degrees of freedom follow
    Welch and Satterthwaite.

    Args:
        figure: weights of the subjects of all sets, 0 or 1, one set after the other -> figure.
        groups: number of subjects of each set. With fewer than three in one of them there is no interval.
    """
    return _jackknife(figure, groups, scale=lambda value: value)[1]


def _jackknife(
    figure: Callable[[npt.NDArray[np.float64]], float], groups: Sequence[int], *, scale: Callable[[float], float]
) -> tuple[float, Interval]:
    """Return the figure of all subjects, and its jackknife interval on another scale."""
    total = sum(groups)
    found = figure(np.ones(total))
    mean = scale(found)
    if min(groups) < MIN_SUBJECTS or not np.isfinite(mean):
        return found, Interval(mean, None, None)
    left_out = np.array([scale(figure(1.0 - row)) for row in np.eye(total)])
    parts = np.split(left_out, np.cumsum(groups)[:-1])
    variances = [(len(part) - 1) / len(part) * float(((part - part.mean()) ** 2).sum()) for part in parts]
    freedom = sum(variances) ** 2 / max(sum(v**2 / (n - 1) for v, n in zip(variances, groups, strict=True)), 1e-300)
    half = t_quantile(max(freedom, 1.0)) * sum(variances) ** 0.5
    ends = (mean - half, mean + half) if np.isfinite(half) else (None, None)
    return found, Interval(mean, *ends)


def share_interval(figure: Callable[[npt.NDArray[np.float64]], float], *groups: int) -> Interval:
    """Return the jackknife interval of a figure between 0 and 1, such as an AUROC, on the scale of its log-odds.

    In simulations of an AUROC of 0.64 to 0.86 over 3 to 10 subjects it contains the true one in 92 to 98 % of the
    cases, the jackknife interval of the figure itself in 78 to 93 %, and a percentile bootstrap in 72 to 92 %.

    Args:
        figure: as for `jackknife_interval`. If leaving out a subject never changes it, there is no interval.
    """
    mean, odds = _jackknife(figure, groups, scale=_to_log_odds)
    if odds.low is None or odds.high is None or odds.low == odds.high:
        return Interval(mean, None, None)
    low, high = (1 / (1 + np.exp(-end)) for end in (odds.low, odds.high))
    return Interval(mean, float(low), float(high))


def wilson_interval(found: int, total: int) -> Interval:
    """Return the share of independent items and its interval (Wilson 1927), which is finite at 0 and 1 too."""
    share, square = found / total, _Z**2 / total
    middle = (share + square / 2) / (1 + square)
    half = float(np.sqrt(square * (share * (1 - share) + square / 4))) / (1 + square)
    return Interval(share, max(middle - half, 0.0), min(middle + half, 1.0))


def _to_log_odds(share: float) -> float:
    share = min(max(share, _LEAST_SHARE), 1 - _LEAST_SHARE) if np.isfinite(share) else share
    return float(np.log(share / (1 - share)))


def group_by_class(counts: npt.NDArray[np.integer]) -> tuple[npt.NDArray[np.intp], list[int]]:
    """Return the order of subjects in which the sets of `jackknife_interval` follow each other, and their sizes.

    Each class is a set if every subject has items of one class only; otherwise all subjects are one set.

    Args:
        counts: (subjects, classes) number of items.
    """
    present = counts > 0
    if (present.sum(axis=1) != 1).any():
        return np.arange(len(counts)), [len(counts)]
    classes = present.argmax(axis=1)
    return np.argsort(classes, kind="stable"), [int(size) for size in np.bincount(classes) if size]


def t_quantile(freedom: float) -> float:
    """Return the 97.5th percentile of Student's t, linear between whole degrees of freedom from 1 to 20.

    Above 20, by the expansion of Abramowitz and Stegun 26.7.5.
    """
    if freedom <= len(_T):
        return float(np.interp(freedom, np.arange(1, len(_T) + 1), _T))
    return _Z + (_Z**3 + _Z) / (4 * freedom) + (5 * _Z**5 + 16 * _Z**3 + 3 * _Z) / (96 * freedom**2)
