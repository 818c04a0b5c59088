"""Figures of single slices find what is wrong with samples, and leave new people alone."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from vqdist.data.sources.phantom import phantom_slice
from vqdist.evaluation.samples.slice_figures import (
    compare_figures,
    compare_positions,
    difference_of_means,
    list_by_slice_number,
    measure_figures,
)
from vqdist.evaluation.samples.slice_statistics import SliceStatistics, compare_halves

NUMBERS = (4, 12, 20, 28)


def draw(subjects: Sequence[int]) -> np.ndarray:
    """Return synthetic slices, (N, 64, 64) in [0, 1]."""
    slices = [phantom_slice(subject, number, image_size=64) for subject in subjects for number in NUMBERS]
    return np.stack(slices).astype(np.float32) / 255


def measure(slices: np.ndarray, prefix: str) -> SliceStatistics:
    images = torch.from_numpy(np.ascontiguousarray(slices, dtype=np.float32))[:, None]
    count = len(slices) // len(NUMBERS)
    names = np.repeat([f"{prefix}{number}" for number in range(count)], len(NUMBERS))
    return SliceStatistics.measure(images, np.array(NUMBERS * count), names)


@pytest.fixture(scope="module")
def slices() -> dict[str, np.ndarray]:
    return {"train": draw(range(12)), "test": draw(range(20, 24)), "new": draw(range(30, 38))}


@pytest.fixture(scope="module")
def real(slices: dict[str, np.ndarray]) -> dict[str, SliceStatistics]:
    return {name: measure(slices[name], name) for name in ("train", "test")}


def differences(real: dict[str, SliceStatistics], samples: np.ndarray) -> set[str]:
    """Return the figures by which samples differ from real people."""
    report = compare_figures({**real, "samples": measure(samples, "new")})
    found = {name: report[name]["difference"] for name in report["meanings"]}
    return {name for name, summary in found.items() if not summary["low"] <= 0 <= summary["high"]}


def test_pictures_that_are_no_brains_have_no_figures_of_brains(real: dict[str, SliceStatistics]) -> None:
    sets = {**real, "samples": real["test"]}
    brains, pictures = (compare_figures(sets, are_brains=are_brains) for are_brains in (True, False))
    assert set(pictures) == {"meanings", "foreground_area", "fine_detail_db"}
    assert pictures["foreground_area"] == brains["brain_area"]


def test_new_people_do_not_differ(slices: dict[str, np.ndarray], real: dict[str, SliceStatistics]) -> None:
    assert differences(real, slices["new"]) == set()


def test_the_sides_of_two_people_differ(slices: dict[str, np.ndarray], real: dict[str, SliceStatistics]) -> None:
    other = np.roll(slices["new"], len(NUMBERS), axis=0)
    joined = np.concatenate([slices["new"][:, :32], other[:, 32:]], axis=1)
    assert "left_right" in differences(real, joined)


def test_a_dark_disc_in_every_second_brain_is_fluid(
    slices: dict[str, np.ndarray], real: dict[str, SliceStatistics]
) -> None:
    y, x = np.mgrid[:64, :64]
    discs = slices["new"].copy()
    discs[::2, (y - 27) ** 2 + (x - 36) ** 2 < 16] = 0.05
    assert {"left_right", "ventricle_area"} & differences(real, discs)


def test_noise_is_fine_detail(slices: dict[str, np.ndarray], real: dict[str, SliceStatistics]) -> None:
    noise = np.random.default_rng(0).normal(0, 0.05, slices["new"].shape)
    assert "fine_detail_db" in differences(real, np.clip(slices["new"] + noise, 0, 1))


def test_the_halves_of_a_symmetric_slice_are_equal() -> None:
    left = torch.rand(2, 32, 64, generator=torch.Generator().manual_seed(0))
    symmetric = torch.cat([left, left.flip(1)], dim=1)
    np.testing.assert_allclose(compare_halves(symmetric), 1, atol=1e-4)
    np.testing.assert_allclose(compare_halves(symmetric.roll(3, dims=1)), 1, atol=1e-4)  # the head need not be centred
    assert compare_halves(torch.rand(2, 64, 64, generator=torch.Generator().manual_seed(1))).max() < 0.7


def test_the_interval_of_a_difference_is_welchs() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=7), rng.normal(1, 2, size=5)
    names = [np.array([f"{prefix}{i}" for i in range(count)]) for prefix, count in (("a", 7), ("b", 5))]
    found = difference_of_means(first, names[0], second, names[1])
    expected = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    assert found == pytest.approx((first.mean() - second.mean(), expected.low, expected.high), abs=0.02)


def test_means_at_a_slice_number(real: dict[str, SliceStatistics]) -> None:
    rows = {(row["group"], row["slice"]): row for row in list_by_slice_number(real)}
    here = real["train"].slice_numbers == 12
    for name, values in measure_figures(real["train"]).items():
        found = rows["train", 12][name], rows["train", 12][f"{name}_deviation"]
        assert found == pytest.approx((values[here].mean(), values[here].std())), name


def test_positions(slices: dict[str, np.ndarray], real: dict[str, SliceStatistics]) -> None:
    new = measure(slices["new"][:16], "new")
    reversed_numbers, no_numbers = new.slice_numbers[::-1].copy(), np.full(len(new), -1)
    sets = {
        "train": real["train"],
        "right": new,
        "wrong": replace(new, slice_numbers=reversed_numbers),
        "none": replace(new, slice_numbers=no_numbers),
    }
    everything = compare_positions(sets)
    report = everything["brain_area"]
    assert report["right"]["slices"] == 16
    assert report["right"]["deviations"] < report["wrong"]["deviations"]
    assert report["right"]["correlation"] > 0.5 > report["wrong"]["correlation"]
    assert report["none"] == {"deviations": None, "correlation": None, "slices": 0}
    assert "train" not in report
    counts = {(row["group"], row["slice"]): row["slices"] for row in everything["means"]}
    assert counts == {(group, n): k for group, k in (("train", 12), ("right", 4), ("wrong", 4)) for n in NUMBERS}
