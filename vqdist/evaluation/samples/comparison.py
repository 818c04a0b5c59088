"""Samples beside real slices: features, grey values, spectrum, anatomy by position."""

from typing import Any

import numpy as np
import numpy.typing as npt

from vqdist.evaluation.samples.features import NAME, Scaling, Values, energy_distance
from vqdist.evaluation.samples.slice_statistics import GREY_BINS, Digest

MOST_COMPARED = 2000
FEWEST_AT_POSITION = 5


def compare_features(train: Digest, test: Digest, others: dict[str, Digest]) -> dict[str, Any]:
    """Return the unbiased distances of each set to test, beside that of train, the floor.

    Args:
        others: "samples"; "reconstructions", of test in its order.
    """
    scaling = Scaling(train.features)
    thinned = {name: scaling(thin(digest.features)) for name, digest in {"train": train, **others}.items()}
    real = scaling(thin(test.features))
    distances = {
        f"{name}_test": energy_distance(features, real, paired=name == "reconstructions")
        for name, features in thinned.items()
    }
    floor = distances["train_test"]
    ratio = distances["samples_test"] / floor if floor > 0 else None
    return {
        "features": NAME,
        "distance": "unbiased energy distance (squared MMD, kernel -|x - y|)",
        **distances,
        "ratio": ratio,
    }


def thin(features: Values) -> Values:
    """Return at most MOST_COMPARED rows, evenly spaced: the cost grows with their square."""
    if len(features) <= MOST_COMPARED:
        return features
    return features[np.linspace(0, len(features) - 1, MOST_COMPARED).astype(int)]


def compare_grey_values(train: Digest, test: Digest, others: dict[str, Digest]) -> dict[str, Any]:
    """Return how far each set's grey values above black are from those of test: Wasserstein-1, in [0, 1]."""
    sets = {"train": train, **others}
    shifts = {f"{name}_test": _shift(digest.histogram, test.histogram) for name, digest in sets.items()}
    return {"distance": "Wasserstein-1 between mean histograms, grey values in [0, 1]", **shifts}


def _shift(first: Values, second: Values) -> float | None:
    """Return the distance between two mean histograms; None where one set is black all over."""
    means = [histogram.mean(axis=0) for histogram in (first, second)]
    if not all(mean.sum() > 0 for mean in means):
        return None
    one, other = (np.cumsum(mean / mean.sum()) for mean in means)
    return float(np.abs(one - other).sum() / GREY_BINS)


def compare_spectra(train: Digest, test: Digest, others: dict[str, Digest]) -> dict[str, Any]:
    """Return how far each set's power spectrum is from that of test: mean difference over frequencies, in dB."""
    real = 10 * np.log10(test.spectrum.mean(axis=0) + 1e-12)
    sets = {"train": train, **others}
    gaps = {name: 10 * np.log10(digest.spectrum.mean(axis=0) + 1e-12) - real for name, digest in sets.items()}
    return {
        "distance": "mean absolute difference of the radial power spectrum, dB",
        **{f"{name}_test": float(np.abs(gap).mean()) for name, gap in gaps.items()},
        "samples_above_quarter_cycle_db": float(gaps["samples"][len(real) // 2 :].mean()),
    }


def compare_positions(
    train: Digest,
    train_slices: npt.NDArray[np.int64],
    others: dict[str, tuple[Digest, npt.NDArray[np.int64]]],
) -> dict[str, Any]:
    """Return how well areas fit the slice number: mean deviation from train's mean there, in its deviations.

    Slices of other people, test, tell what is usual. Positions that train shows fewer than
    FEWEST_AT_POSITION times are left out.

    Args:
        train_slices: (N,) slice number of each training slice, below 0 where it has none.
        others: name -> digest and slice numbers.
    """
    report: dict[str, Any] = {
        "distance": "mean of |area - mean of train at that slice| / its deviation there",
        "means": _list_means({"train": (train, train_slices), **others}),
    }
    for area in ("brain_area", "ventricle_area"):
        values = getattr(train, area)
        known = {
            number: values[train_slices == number]
            for number in np.unique(train_slices)
            if number >= 0 and (train_slices == number).sum() >= FEWEST_AT_POSITION
        }
        report[area] = {
            name: _mean_deviation(getattr(digest, area), numbers, known) for name, (digest, numbers) in others.items()
        }
    return report


def _list_means(groups: dict[str, tuple[Digest, npt.NDArray[np.int64]]]) -> list[dict[str, Any]]:
    """Return the mean areas of each group's slices of each number, which tell what a condition does."""
    return [
        {
            "group": name,
            "slice": int(number),
            "slices": int((numbers == number).sum()),
            "brain_area": float(digest.brain_area[numbers == number].mean()),
            "ventricle_area": float(digest.ventricle_area[numbers == number].mean()),
        }
        for name, (digest, numbers) in groups.items()
        for number in np.unique(numbers[numbers >= 0])
    ]


def _mean_deviation(
    areas: Values, numbers: npt.NDArray[np.int64], known: dict[np.int64, Values]
) -> dict[str, float | int | None]:
    pairs = [(area, known[number]) for area, number in zip(areas, numbers, strict=True) if number in known]
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
