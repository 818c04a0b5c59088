"""Figures of single slices, such as areas: their means by set and by slice number, and how samples differ."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from vqdist.evaluation.samples.slice_statistics import SliceStatistics, Values
from vqdist.metrics.confidence_intervals import Interval, Summary, jackknife_interval, subject_interval, to_summary

MIN_AT_POSITION = 5

MEANINGS = {
    "brain_area": "share of the slice that is brain",
    "ventricle_area": "share of dark fluid in the inner part of the brain",
    "left_right": "similarity of the upper half to the mirrored lower half",
    "fine_detail_db": "power above a quarter cycle per pixel, in dB",
}
MEANINGS_OF_PICTURES = {
    "foreground_area": "share of the picture that is not dark",
    "fine_detail_db": MEANINGS["fine_detail_db"],
}

Sets = Mapping[str, SliceStatistics]


def measure_figures(slices: SliceStatistics) -> dict[str, Values]:
    """Return the figures of each slice by name, (N,) each."""
    detail = slices.spectrum[:, slices.spectrum.shape[1] // 2 :].mean(axis=1)
    return {
        "brain_area": slices.brain_area,
        "ventricle_area": slices.ventricle_area,
        "left_right": slices.left_right,
        "fine_detail_db": 10 * np.log10(detail + 1e-12),
    }


def compare_figures(sets: Sets, *, are_brains: bool = True) -> dict[str, Any]:
    """Return the mean of each figure by set, and the difference of samples from the real people of train and test.

    The difference is that of figures at the same slice number, where all slices have a number. Its interval is over
    real subjects and samples. If it does not contain 0, the samples differ from real people.

    Args:
        are_brains: False to leave out what only brains have.
    """
    figures = {
        name: measure_figures(statistics) | {"foreground_area": statistics.brain_area}
        for name, statistics in sets.items()
    }
    meanings = MEANINGS if are_brains else MEANINGS_OF_PICTURES
    report: dict[str, Any] = {"meanings": meanings}
    for figure in meanings:
        report[figure] = {
            name: to_summary(subject_interval(figures[name][figure], sets[name].subjects.tolist())) for name in sets
        }
        report[figure]["difference"] = compare_at_slice_numbers(
            sets, {name: figures[name][figure] for name in ("train", "test", "samples")}
        )
    return report


def compare_at_slice_numbers(sets: Sets, values: Mapping[str, Values]) -> Summary:
    """Return the mean of samples minus that of real slices, both relative to the real slices of the same number.

    Args:
        values: figure of each slice of "train", "test" and "samples".
    """
    numbers = {name: sets[name].slice_numbers for name in values}
    if any((found < 0).any() for found in numbers.values()):
        numbers = {name: np.zeros_like(found) for name, found in numbers.items()}
    real = np.concatenate([values["train"], values["test"]])
    real_numbers = np.concatenate([numbers["train"], numbers["test"]])
    subjects = np.concatenate([sets[name].subjects for name in ("train", "test")])
    enough = [number for number in np.unique(real_numbers) if (real_numbers == number).sum() >= MIN_AT_POSITION]
    means = {number: real[real_numbers == number].mean() for number in enough if number in numbers["samples"]}
    sample, own = _subtract(values["samples"], numbers["samples"], sets["samples"].subjects, means)
    people, owners = _subtract(real, real_numbers, subjects, means)
    if not len(sample) or not len(people):
        return to_summary(None)
    return to_summary(difference_of_means(sample, own, people, owners))


def _subtract(
    values: Values, numbers: npt.NDArray[np.int64], subjects: npt.NDArray[np.str_], means: Mapping[np.int64, float]
) -> tuple[Values, npt.NDArray[np.str_]]:
    """Return values minus the mean of their slice number, and their subjects; without numbers that have no mean."""
    kept = np.isin(numbers, list(means))
    return values[kept] - np.array([means[number] for number in numbers[kept]]), subjects[kept]


def difference_of_means(
    first: Values, first_subjects: npt.NDArray[np.str_], second: Values, second_subjects: npt.NDArray[np.str_]
) -> Interval:
    """Return the difference of the means of two sets of slices, and its interval over the subjects of both."""
    sums, counts = [], []
    for values, subjects in ((first, first_subjects), (second, second_subjects)):
        _, index = np.unique(subjects, return_inverse=True)
        sums.append(np.bincount(index, weights=values))
        counts.append(np.bincount(index))
    size = len(sums[0])

    def measure(weights: Values) -> float:
        own, other = weights[:size], weights[size:]
        return float(own @ sums[0] / (own @ counts[0]) - other @ sums[1] / (other @ counts[1]))

    return jackknife_interval(measure, size, len(sums[1]))


def list_by_slice_number(sets: Sets) -> list[dict[str, Any]]:
    """Return the mean of each figure of each set at each slice number, and its deviation between slices."""
    rows = []
    for name, found in sets.items():
        figures = measure_figures(found)
        for number in np.unique(found.slice_numbers[found.slice_numbers >= 0]):
            here = found.slice_numbers == number
            row: dict[str, Any] = {"group": name, "slice": int(number), "slices": int(here.sum())}
            for figure, values in figures.items():
                row[figure] = float(values[here].mean())
                row[f"{figure}_deviation"] = float(values[here].std())
            rows.append(row)
    return rows


def compare_positions(sets: Sets) -> dict[str, Any]:
    """Return how well the areas of each set fit its slice numbers.

    The measure is the mean deviation from the mean of train at the same slice number, divided by the standard deviation
    of train there. Slice numbers with fewer than MIN_AT_POSITION training slices are left out. Test is the reference.
    """
    report: dict[str, Any] = {
        "distance": "mean of |area - mean of train at that slice| / its deviation there",
        "means": list_by_slice_number(sets),
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
