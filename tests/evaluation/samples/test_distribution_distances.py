"""Noise, blur, darkening and wrong positions increase the distance to test; new slices of other subjects do not."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from vqdist.data.sources.phantom import phantom_slice
from vqdist.evaluation.samples import distribution_distances
from vqdist.evaluation.samples.slice_statistics import SliceStatistics

NUMBERS = (4, 12, 20, 28)


def draw(subjects: range) -> np.ndarray:
    """Return synthetic slices, (N, 64, 64) in [0, 1]."""
    slices = [phantom_slice(subject, number, image_size=64) for subject in subjects for number in NUMBERS]
    return np.stack(slices).astype(np.float32) / 255


def measure(slices: np.ndarray) -> SliceStatistics:
    images = torch.from_numpy(np.ascontiguousarray(slices, dtype=np.float32))[:, None]
    return SliceStatistics.measure(images, np.array(NUMBERS * (len(slices) // len(NUMBERS))))


@pytest.fixture(scope="module")
def slices() -> dict[str, np.ndarray]:
    return {"train": draw(range(12)), "test": draw(range(20, 24)), "new": draw(range(30, 34))}


@pytest.fixture(scope="module")
def real(slices: dict[str, np.ndarray]) -> dict[str, SliceStatistics]:
    return {name: measure(slices[name]) for name in ("train", "test")}


def test_features(slices: dict[str, np.ndarray], real: dict[str, SliceStatistics]) -> None:
    blurred = np.stack([gaussian_filter(one, 1.5) for one in slices["new"]])
    noisy = np.clip(slices["new"] + np.random.default_rng(0).normal(0, 0.3, slices["new"].shape), 0, 1)
    sets = ({**real, "samples": measure(samples)} for samples in (slices["new"], blurred, noisy))
    new, *altered = map(distribution_distances.compare_features, sets)
    assert new["samples_test"] < 0.2 * min(report["samples_test"] for report in altered)
    assert new["ratio"] == pytest.approx(new["samples_test"] / new["train_test"])
    copied = distribution_distances.compare_features({**real, "reconstructions": real["test"], "samples": real["test"]})
    assert copied["reconstructions_test"] == pytest.approx(0, abs=1e-6)


def test_grey_values(slices: dict[str, np.ndarray], real: dict[str, SliceStatistics]) -> None:
    report = distribution_distances.compare_grey_values({**real, "samples": measure(slices["test"] * 0.8)})
    inside = slices["test"][slices["test"] > 0]
    assert report["samples_test"] == pytest.approx(0.2 * inside.mean(), rel=0.15)
    black = distribution_distances.compare_grey_values({**real, "samples": measure(slices["test"] * 0)})
    assert black["samples_test"] is None


def test_spectra(slices: dict[str, np.ndarray], real: dict[str, SliceStatistics]) -> None:
    blurred = measure(np.stack([gaussian_filter(one, 1.0) for one in slices["test"]]))
    report = distribution_distances.compare_spectra({**real, "samples": blurred})
    assert report["samples_test"] > 4 * report["train_test"]
    assert report["samples_above_quarter_cycle_db"] < -5


def test_positions(slices: dict[str, np.ndarray], real: dict[str, SliceStatistics]) -> None:
    new = measure(slices["new"])
    reversed_numbers, no_numbers = new.slice_numbers[::-1].copy(), np.full(len(new), -1)
    sets = {
        "train": real["train"],
        "right": new,
        "wrong": replace(new, slice_numbers=reversed_numbers),
        "none": replace(new, slice_numbers=no_numbers),
    }
    everything = distribution_distances.compare_positions(sets)
    report = everything["brain_area"]
    assert report["right"]["slices"] == 16
    assert report["right"]["deviations"] < report["wrong"]["deviations"]
    assert report["right"]["correlation"] > 0.5 > report["wrong"]["correlation"]
    assert report["none"] == {"deviations": None, "correlation": None, "slices": 0}
    assert "train" not in report
    counts = {(row["group"], row["slice"]): row["slices"] for row in everything["means"]}
    assert counts == {(group, n): k for group, k in (("train", 12), ("right", 4), ("wrong", 4)) for n in NUMBERS}
