"""Noise, blur, darkening and wrong positions increase the distance to test; new slices of other subjects do not."""

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


def measure(slices: np.ndarray, prefix: str = "samples") -> SliceStatistics:
    images = torch.from_numpy(np.ascontiguousarray(slices, dtype=np.float32))[:, None]
    count = len(slices) // len(NUMBERS)
    names = np.repeat([f"{prefix}{number}" for number in range(count)], len(NUMBERS))
    return SliceStatistics.measure(images, np.array(NUMBERS * count), names)


@pytest.fixture(scope="module")
def slices() -> dict[str, np.ndarray]:
    return {"train": draw(range(12)), "test": draw(range(20, 24)), "new": draw(range(30, 34))}


@pytest.fixture(scope="module")
def real(slices: dict[str, np.ndarray]) -> dict[str, SliceStatistics]:
    return {name: measure(slices[name], name) for name in ("train", "test")}


def test_features(slices: dict[str, np.ndarray], real: dict[str, SliceStatistics]) -> None:
    blurred = np.stack([gaussian_filter(one, 1.5) for one in slices["new"]])
    noisy = np.clip(slices["new"] + np.random.default_rng(0).normal(0, 0.3, slices["new"].shape), 0, 1)
    sets = ({**real, "samples": measure(samples)} for samples in (slices["new"], blurred, noisy))
    new, *altered = map(distribution_distances.compare_features, sets)
    means = {name: found["mean"] for name, found in new.items() if isinstance(found, dict)}
    assert means.keys() == {"train_test", "samples_test", "samples_train"}
    assert means["samples_test"] < 0.2 * min(report["samples_test"]["mean"] for report in altered)
    assert all(report["samples_test"]["low"] > new["samples_test"]["high"] for report in altered)
    copied = distribution_distances.compare_features(
        {**real, "reconstructions": real["test"], "samples": real["train"]}
    )
    assert copied["reconstructions_test"]["mean"] == pytest.approx(0, abs=1e-6)
    assert copied["samples_train"]["mean"] == pytest.approx(0, abs=1e-6)


def test_copies_of_train_are_nearer_to_it_than_new_people(
    slices: dict[str, np.ndarray], real: dict[str, SliceStatistics]
) -> None:
    """Samples are subjects of their own, so a copy and its original count as two people."""
    new = distribution_distances.compare_features({**real, "samples": measure(slices["new"])})
    copied = distribution_distances.compare_features({**real, "samples": measure(slices["train"])})
    assert copied["samples_train"]["high"] < 0 < new["samples_train"]["high"]


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
