"""Coverage and density of samples among real slices (Naeem et al. 2020), and the training subjects they resemble.

Slices of one subject are neighbours of each other, so neighbourhoods are of other subjects only.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from vqdist.evaluation.samples.distribution_distances import MAX_COMPARED
from vqdist.evaluation.samples.features import Scaling, Values, squared_distances
from vqdist.evaluation.samples.slice_statistics import SliceStatistics
from vqdist.foundation.seeds import derive_seed
from vqdist.metrics.codes import perplexity
from vqdist.metrics.confidence_intervals import Summary, subject_interval, to_summary

NEIGHBOURS = 5
DRAWS = 10


def compare_coverage(sets: Mapping[str, SliceStatistics]) -> dict[str, Any]:
    """Return coverage and density of samples among test slices, each beside that of as many training slices.

    coverage: share of the test slices with a sample in their neighbourhood, which reaches to the NEIGHBOURS-th nearest
    test slice of another subject; low if samples lack variety. density: mean number of neighbourhoods around a sample,
    divided by NEIGHBOURS; low if samples are unlike any real slice.
    subjects: effective number (exp of the entropy) of training subjects that the samples are nearest to, beside that of
    as many training slices with regard to other subjects; low if samples show few of the subjects.
    """
    scaling = Scaling(sets["train"].features)
    features = {name: scaling(sets[name].features) for name in ("train", "test", "samples")}
    count = min(len(sets["samples"]), len(sets["train"]), MAX_COMPARED)
    report: dict[str, Any] = {"neighbours": NEIGHBOURS, "compared": count}
    limits = find_neighbourhoods(features["test"], sets["test"].subjects)
    for name in ("samples", "train"):
        if limits is None:
            report[name] = {figure: to_summary(None) for figure in ("coverage", "density")}
            continue
        distances = squared_distances(features[name], features["test"])
        inside = [distances[rows] <= limits for rows in draw_rows(len(distances), count)]
        covered = np.mean([found.any(axis=0) for found in inside], axis=0)
        dense = np.mean([found.mean(axis=0) for found in inside], axis=0) * len(limits) / NEIGHBOURS
        report[name] = {
            "coverage": _summarize(covered, sets["test"].subjects, highest=1.0),
            "density": _summarize(dense, sets["test"].subjects),
        }
    nearest = {
        name: find_nearest_subjects(features[name], sets[name].subjects, features["train"], sets["train"].subjects)
        for name in ("samples", "train")
    }
    for name, subjects in nearest.items():
        report[name]["subjects"] = count_effective_subjects(subjects, count)
    return report


def _summarize(values: Values, subjects: npt.NDArray[np.str_], highest: float = np.inf) -> Summary:
    """Return the mean and its interval, limited to values that are possible."""
    found = to_summary(subject_interval(values, subjects.tolist()))
    return {name: None if value is None else float(np.clip(value, 0, highest)) for name, value in found.items()}


def find_neighbourhoods(features: Values, subjects: npt.NDArray[np.str_]) -> Values | None:
    """Return the squared distance of each slice to its NEIGHBOURS-th nearest slice of another subject: (N,).

    Returns:
        None if a slice has fewer slices of other subjects.
    """
    distances = np.where(subjects[:, None] == subjects[None], np.inf, squared_distances(features, features))
    if distances.shape[1] < NEIGHBOURS:
        return None
    limits = np.partition(distances, NEIGHBOURS - 1, axis=1)[:, NEIGHBOURS - 1]
    return limits if np.isfinite(limits).all() else None


def draw_rows(total: int, count: int) -> Iterator[npt.NDArray[np.int64]]:
    """Yield all rows, or DRAWS random choices of `count` of them: coverage grows with the number of slices."""
    rng = np.random.default_rng(derive_seed(0, "coverage"))
    for _ in range(1 if total == count else DRAWS):
        yield rng.permutation(total)[:count]


def find_nearest_subjects(
    features: Values, subjects: npt.NDArray[np.str_], train: Values, train_subjects: npt.NDArray[np.str_]
) -> npt.NDArray[np.int64]:
    """Return the number of the training subject, in sorted order, that each slice is nearest to; not its own."""
    _, numbers = np.unique(train_subjects, return_inverse=True)
    distances = np.where(subjects[:, None] == train_subjects[None], np.inf, squared_distances(features, train))
    return numbers[distances.argmin(axis=1)]


def count_effective_subjects(nearest: npt.NDArray[np.int64], count: int) -> float:
    """Return exp of the entropy of the subjects of `count` slices, the mean over draws."""
    found = [perplexity(torch.bincount(torch.from_numpy(nearest[rows]))) for rows in draw_rows(len(nearest), count)]
    return float(np.mean(found))
