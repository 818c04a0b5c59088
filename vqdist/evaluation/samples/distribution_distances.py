"""Comparison of the statistics of samples and of real slices: features, grey values, power spectrum, anatomy.

The functions take the statistics of several sets of slices by name. "train" holds the training slices, "test" real
slices that are not in train; the distance between the two is the reference for the others.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from vqdist.evaluation.samples.features import NAME, Scaling, Values, energy_distance
from vqdist.evaluation.samples.slice_statistics import GREY_BINS, SliceStatistics

MAX_COMPARED = 2000
MIN_AT_POSITION = 5

Sets = Mapping[str, SliceStatistics]


def compare_features(sets: Sets) -> dict[str, Any]:
    """Return the unbiased distance of each set to test, and the ratio of that of "samples" to that of train.

    Args:
        sets: "reconstructions", if there are any, are those of test, in the same order.
    """
    scaling = Scaling(sets["train"].features)
    features = {name: scaling(_thin_out(statistics.features)) for name, statistics in sets.items()}
    test = features.pop("test")
    distances = {
        f"{name}_test": energy_distance(found, test, paired=name == "reconstructions")
        for name, found in features.items()
    }
    reference = distances["train_test"]
    return {
        "features": NAME,
        "distance": "unbiased energy distance (squared MMD, kernel -|x - y|)",
        **distances,
        "ratio": distances["samples_test"] / reference if reference > 0 else None,
    }


def _thin_out(features: Values) -> Values:
    """Return at most MAX_COMPARED rows, evenly spaced: the cost is quadratic."""
    if len(features) <= MAX_COMPARED:
        return features
    return features[np.linspace(0, len(features) - 1, MAX_COMPARED).astype(int)]


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


def compare_positions(sets: Sets) -> dict[str, Any]:
    """Return how well the areas of each set fit its slice numbers.

    The measure is the mean deviation from the mean of train at the same slice number, divided by the standard deviation
    of train there. Slice numbers with fewer than MIN_AT_POSITION training slices are left out. Test is the reference.
    """
    report: dict[str, Any] = {
        "distance": "mean of |area - mean of train at that slice| / its deviation there",
        "means": _list_means(sets),
    }
    train = sets["train"]
    for area in ("brain_area", "ventricle_area"):
        values = getattr(train, area)
        positions = {
            number: values[train.slice_numbers == number]
            for number in np.unique(train.slice_numbers)
            if number >= 0 and (train.slice_numbers == number).sum() >= MIN_AT_POSITION
        }
        report[area] = {
            name: _measure_deviations(getattr(statistics, area), statistics.slice_numbers, positions)
            for name, statistics in sets.items()
            if name != "train"
        }
    return report


def _list_means(sets: Sets) -> list[dict[str, Any]]:
    """Return the mean areas of each set at each slice number, which show the effect of the condition."""
    return [
        {
            "group": name,
            "slice": int(number),
            "slices": int((found.slice_numbers == number).sum()),
            "brain_area": float(found.brain_area[found.slice_numbers == number].mean()),
            "ventricle_area": float(found.ventricle_area[found.slice_numbers == number].mean()),
        }
        for name, found in sets.items()
        for number in np.unique(found.slice_numbers[found.slice_numbers >= 0])
    ]


def _measure_deviations(
    areas: Values, numbers: npt.NDArray[np.int64], positions: Mapping[np.int64, Values]
) -> dict[str, float | int | None]:
    """Return the mean deviation of areas from those of train, and their correlation with the means of train.

    Args:
        numbers: slice number of each area.
        positions: slice number -> areas of the training slices.
    """
    pairs = [(area, positions[number]) for area, number in zip(areas, numbers, strict=True) if number in positions]
    if not pairs:
        return {"deviations": None, "correlation": None, "slices": 0}
    expected = np.array([values.mean() for _, values in pairs])
    spread = np.array([max(float(values.std()), 1e-6) for _, values in pairs])
    found = np.array([area for area, _ in pairs])
    varied = len(pairs) > 2 and float(found.std()) > 0 and float(expected.std()) > 0
    return {
        "deviations": float((np.abs(found - expected) / spread).mean()),
        "correlation": float(np.corrcoef(found, expected)[0, 1]) if varied else None,
        "slices": len(pairs),
    }
