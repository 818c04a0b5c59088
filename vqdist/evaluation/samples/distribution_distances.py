"""Comparison of the statistics of samples and of real slices: features, grey values, power spectrum.

The functions take the statistics of several sets of slices by name. "train" holds the training slices, "test" real
slices that are not in train; the distance between the two is the reference for the others.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from vqdist.evaluation.samples.features import NAME, Scaling, Values, energy_distance
from vqdist.evaluation.samples.slice_statistics import GREY_BINS, SliceStatistics
from vqdist.metrics.confidence_intervals import Summary, to_summary

MAX_COMPARED = 1000

Sets = Mapping[str, SliceStatistics]


def compare_features(sets: Sets) -> dict[str, Any]:
    """Return the unbiased distances of the other sets to test and of samples to train, with intervals over subjects.

    "train_test" is the floor: two sets of real people. A set that is closer to train than test is has memorised it.
    """
    scaling = Scaling(sets["train"].features)
    rows = {name: _choose_rows(len(statistics)) for name, statistics in sets.items()}

    def measure(first: str, second: str) -> Summary:
        one, other = (scaling(sets[name].features[rows[name]]) for name in (first, second))
        owners, others = (sets[name].subjects[rows[name]] for name in (first, second))
        return to_summary(energy_distance(one, other, owners, others))

    pairs = [(name, "test") for name in sets if name != "test"] + [("samples", "train")]
    return {
        "features": NAME,
        "distance": "unbiased energy distance (squared MMD, kernel -|x - y|) between slices of different subjects",
        **{f"{first}_{second}": measure(first, second) for first, second in pairs},
    }


def _choose_rows(count: int) -> npt.NDArray[np.int64]:
    """Return at most MAX_COMPARED numbers below `count`, evenly spaced: the cost is quadratic."""
    return np.unique(np.linspace(0, count - 1, min(count, MAX_COMPARED)).astype(np.int64))


def compare_grey_values(sets: Sets) -> dict[str, Any]:
    """Return the distance of the grey values above black of each set to those of test: Wasserstein-1, in [0, 1]."""
    distances = {
        f"{name}_test": _histogram_distance(statistics.histogram, sets["test"].histogram)
        for name, statistics in sets.items()
        if name != "test"
    }
    return {"distance": "Wasserstein-1 between mean histograms, grey values in [0, 1]", **distances}


def _histogram_distance(first: Values, second: Values) -> float | None:
    """Return the distance between two mean histograms; None if a set is completely black."""
    means = [histogram.mean(axis=0) for histogram in (first, second)]
    if not all(mean.sum() > 0 for mean in means):
        return None
    one, other = (np.cumsum(mean / mean.sum()) for mean in means)
    return float(np.abs(one - other).sum() / GREY_BINS)


def compare_spectra(sets: Sets) -> dict[str, Any]:
    """Return the distance of the power spectrum of each set to that of test: mean over frequencies, in dB."""
    decibels = {name: 10 * np.log10(statistics.spectrum.mean(axis=0) + 1e-12) for name, statistics in sets.items()}
    test = decibels.pop("test")
    differences = {name: spectrum - test for name, spectrum in decibels.items()}
    return {
        "distance": "mean absolute difference of the radial power spectrum, dB",
        **{f"{name}_test": float(np.abs(difference).mean()) for name, difference in differences.items()},
        "samples_above_quarter_cycle_db": float(differences["samples"][len(test) // 2 :].mean()),
    }
