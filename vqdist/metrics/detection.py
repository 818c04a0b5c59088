"""Metrics of a detector from scores and truth: average precision, AUROC, Dice, and their intervals over subjects.

Shapes: N scored items (pixels or slices), T distinct thresholds in descending order.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vqdist.metrics.confidence_intervals import Interval, group_by_class, share_interval

_BINS = 1024  # thresholds of the intervals, spaced linearly and geometrically in rank

Floats = npt.NDArray[np.floating]
Flags = npt.NDArray[np.bool_]


class Curve(NamedTuple):
    """The counts of a detector at each distinct score, from the highest to the lowest.

    Attributes:
        thresholds: (T,) distinct scores.
        positives, negatives: (..., T) items of each score that are true and false.
    """

    thresholds: Floats
    positives: npt.NDArray[np.float64]
    negatives: npt.NDArray[np.float64]

    @property
    def precision(self) -> npt.NDArray[np.float64]:
        """The share of true items among those with at least each threshold: (..., T)."""
        found = self.positives.cumsum(-1)
        return found / np.maximum(found + self.negatives.cumsum(-1), 1)

    @property
    def recall(self) -> npt.NDArray[np.float64]:
        """The share of the true items that have at least each threshold: (..., T)."""
        return self.positives.cumsum(-1) / np.maximum(self.positives.sum(-1, keepdims=True), 1)


class Detection(NamedTuple):
    """The figures of a detector, each of shape (...); NaN without true or without false items.

    Attributes:
        ap: average precision, the sum over thresholds of the precision times the gain in recall.
        auroc: probability that a true item has a higher score than a false one; ties count half.
        best_dice: greatest Dice coefficient over all thresholds.
    """

    ap: npt.NDArray[np.float64]
    auroc: npt.NDArray[np.float64]
    best_dice: npt.NDArray[np.float64]


def build_curve(scores: Floats, truth: Flags) -> Curve:
    """Count true and false items at each distinct score.

    Args:
        scores: (N,) higher for items that are more likely true.
        truth: (N,).
    """
    order = np.argsort(-scores, kind="stable")
    ordered, hits = scores[order], truth[order].astype(np.float64)
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True)) if len(ordered) else np.zeros(0, np.int64)
    found, seen = hits.cumsum()[ends], ends + 1.0
    positives = np.diff(found, prepend=0.0)
    return Curve(ordered[ends], positives, np.diff(seen, prepend=0.0) - positives)


def measure_detection(curve: Curve) -> Detection:
    """Return average precision, AUROC and best Dice of a curve, or of many curves."""
    total, misses = (counts.sum(-1) for counts in (curve.positives, curve.negatives))
    found = curve.positives.cumsum(-1)
    marked = found + curve.negatives.cumsum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        ap = (curve.positives * curve.precision).sum(-1) / total
        above = found - curve.positives / 2
        auroc = (curve.negatives * above).sum(-1) / (misses * total)
        dice = 2 * (found / (marked + total[..., None])).max(-1, initial=0)
    undefined = (total == 0) | (misses == 0)
    return Detection(*(np.where(undefined, np.nan, values) for values in (ap, auroc, dice)))


def measure_dice(scores: Floats, truth: Flags, limit: float) -> float:
    """Return the Dice coefficient of the items with a score above a limit; NaN without true items."""
    marked = scores > limit
    total = int(truth.sum())
    return 2 * int((marked & truth).sum()) / (int(marked.sum()) + total) if total else float("nan")


def detection_intervals(
    scores: Floats, truth: Flags, subjects: Sequence[str] | npt.NDArray[np.str_]
) -> dict[str, Interval]:
    """Return each figure of Detection and its 95 % interval, from the figures without one subject each.

    They are computed with about 2000 thresholds instead of all. If no subject has both true and false items, subjects
    with true and subjects with false items are two sets, each with a variance of its own; see `share_interval`.

    Args:
        subjects: (N,) subject of each item.
    """
    if not len(scores):
        return dict.fromkeys(Detection._fields, Interval(float("nan"), None, None))
    names, index = np.unique(np.asarray(subjects), return_inverse=True)
    thresholds = _choose_thresholds(scores)
    # Bin of each item: the first threshold in descending order that it reaches.
    bins = len(thresholds) - np.searchsorted(thresholds[::-1], scores, side="right")
    flat = index * len(thresholds) + bins
    positives, negatives = (
        np.bincount(flat[chosen], minlength=len(names) * len(thresholds)).reshape(len(names), -1)
        for chosen in (truth, ~truth)
    )
    order, sizes = group_by_class(np.stack([positives.sum(1), negatives.sum(1)], axis=1))

    def measure(weights: npt.NDArray[np.float64], name: str) -> float:
        curve = Curve(thresholds, weights @ positives[order], weights @ negatives[order])
        return float(getattr(measure_detection(curve), name))

    return {name: share_interval(partial(measure, name=name), *sizes) for name in Detection._fields}


def _choose_thresholds(scores: Floats) -> Floats:
    """Return distinct thresholds in descending order, closest together at the highest scores; the last is the least."""
    ordered = np.sort(scores)[::-1]
    ranks = np.concatenate([np.linspace(1, len(ordered), _BINS), np.geomspace(1, len(ordered), _BINS)])
    return np.unique(ordered[np.unique(ranks.round().astype(np.int64)) - 1])[::-1]
