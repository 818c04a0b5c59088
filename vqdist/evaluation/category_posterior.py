"""The category of a slice, such as a diagnosis, by Bayes from the likelihoods of a conditional prior.

p(category | codes) is proportional to p(codes | category, other conditions), with equal probabilities of the categories
before. The baseline has the same form with the counts of each code at each position for each category.

Shapes: N samples, C categories, K codes, h w grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vqdist.data.open_dataset import Dataset
from vqdist.evaluation.code_baselines import SMOOTHING
from vqdist.inference.split_loader import SplitLoader
from vqdist.metrics.confidence_intervals import Interval, group_by_class, share_interval, to_summary
from vqdist.metrics.detection import build_curve, detection_intervals, measure_detection

BATCH_SIZE = 256

Values = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class CategoryCounts:
    """Counts of the codes at each position of the training maps of each category.

    Attributes:
        log_probabilities: (C, h w, K) in nats, smoothed by the frequency of the code in all maps.
    """

    log_probabilities: Values

    @classmethod
    def fit(cls, dataset: Dataset, name: str, categories: Sequence[str], *, num_codes: int) -> "CategoryCounts":
        """Count the codes of the train split."""
        counts: Values | None = None
        for codes, truth in read_categories(SplitLoader(dataset, "train", batch_size=BATCH_SIZE), name, categories):
            flat = codes.reshape(len(codes), -1)
            if counts is None:
                counts = np.zeros((len(categories), flat.shape[1], num_codes))
            known = truth >= 0
            places = np.arange(flat.shape[1])
            np.add.at(counts, (truth[known][:, None], places, flat[known]), 1)
        assert counts is not None, "a dataset of codes has train maps"
        unigram = counts.sum(axis=(0, 1)) + SMOOTHING
        smoothed = counts + unigram / unigram.sum()
        return cls(np.log(smoothed / smoothed.sum(axis=2, keepdims=True)))

    def score(self, codes: Integers) -> Values:
        """Return the log-likelihood of maps (B, h, w) for each category, (B, C), in nats."""
        flat = codes.reshape(len(codes), -1)
        places = np.arange(flat.shape[1])
        found: Values = self.log_probabilities[:, places, flat].sum(axis=2).T
        return found


def read_categories(split: SplitLoader, name: str, categories: Sequence[str]) -> Any:
    """Yield codes (B, h, w) and the index of the category of each, (B,), below 0 where it is unknown."""
    attribute = split.manifest.attributes[name]
    places = np.array([categories.index(value) if value in categories else -1 for value in attribute.values])
    for batch in split.load_all():
        values = batch.conditions.attributes[name].numpy()
        known = ~np.isnan(values)
        truth = np.full(len(values), -1)
        truth[known] = places[values[known].astype(np.int64)]
        yield batch.values.numpy(), truth


def describe_categories(
    log_likelihoods: Values, truth: Integers, subjects: Sequence[str], categories: Sequence[str]
) -> dict[str, Any] | None:
    """Return balanced accuracy and AUROC with their intervals over subjects; None for fewer than two categories.

    Args:
        log_likelihoods: (N, C) in nats.
        truth: (N,) index of the category, below 0 where it is unknown.
    """
    known = truth >= 0
    scores, truth = log_likelihoods[known], truth[known]
    names = np.asarray(subjects)[known]
    present = sorted(set(truth.tolist()))
    if len(present) < 2:
        return None
    scores = scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)
    report: dict[str, Any] = {
        "samples": len(truth),
        "subjects": len(set(names.tolist())),
        "balanced_accuracy": to_summary(measure_balanced_accuracy(scores, truth, names, present)),
        "auroc": {},
    }
    for index in present:
        others = np.delete(scores, index, axis=1)
        odds = scores[:, index] - np.logaddexp.reduce(others, axis=1)
        found = measure_detection(build_curve(odds, truth == index)).auroc
        interval = detection_intervals(odds, truth == index, names)["auroc"]._replace(mean=float(found))
        report["auroc"][categories[index]] = to_summary(interval)
    return report


def measure_balanced_accuracy(
    scores: Values, truth: Integers, names: npt.NDArray[Any], present: Sequence[int]
) -> Interval:
    """Return the mean over the categories of the share of their samples that have the greatest score there.

    The interval is from the figures without one subject each.
    """
    subjects, place = np.unique(names, return_inverse=True)
    right = (scores.argmax(axis=1) == truth).astype(np.float64)
    hits, totals = (
        np.stack([np.bincount(place, weights * (truth == index), minlength=len(subjects)) for index in present], axis=1)
        for weights in (right, np.ones_like(right))
    )
    order, sizes = group_by_class(totals.astype(np.int64))

    def measure(weights: npt.NDArray[np.float64]) -> float:
        with np.errstate(invalid="ignore"):
            return float(((weights @ hits[order]) / (weights @ totals[order])).mean())

    return share_interval(measure, *sizes)
