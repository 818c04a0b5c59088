"""Copies are found, blur and shifts are told, areas are held against their position."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from vqdist.data.sources.phantom import phantom_slice
from vqdist.evaluation.samples import comparison, copies
from vqdist.evaluation.samples.slice_statistics import Digest

NUMBERS = (4, 12, 20, 28)


def draw(subjects: range) -> np.ndarray:
    """Made-up slices, (N, 64, 64) in [0, 1]."""
    slices = [phantom_slice(subject, number, image_size=64) for subject in subjects for number in NUMBERS]
    return np.stack(slices).astype(np.float32) / 255


def digest(slices: np.ndarray) -> Digest:
    return Digest.of(torch.from_numpy(np.ascontiguousarray(slices, dtype=np.float32))[:, None])


@pytest.fixture(scope="module")
def sets() -> dict[str, np.ndarray]:
    return {"train": draw(range(12)), "test": draw(range(20, 24)), "new": draw(range(30, 34))}


def test_new_people_are_as_far_as_test_and_noise_is_not(sets: dict[str, np.ndarray]) -> None:
    train, test = digest(sets["train"]), digest(sets["test"])
    blurred = np.stack([gaussian_filter(one, 1.5) for one in sets["new"]])
    noisy = np.clip(sets["new"] + np.random.default_rng(0).normal(0, 0.3, sets["new"].shape), 0, 1)
    ratios = []
    for slices in (sets["new"], blurred, noisy):
        others = {"samples": digest(slices), "reconstructions": test}
        ratios.append(comparison.compare_features(train, test, others)["samples_test"])
    assert ratios[0] < 0.2 * min(ratios[1:])


def test_copies_are_found_mirrored_and_moved_too(sets: dict[str, np.ndarray]) -> None:
    rng = np.random.default_rng(0)
    mirrored, turned = sets["train"][17, ::-1], sets["train"][20, :, ::-1]
    moved = np.roll(sets["train"][30], (1, -1), axis=(0, 1))
    copied = np.stack([sets["train"][5], mirrored, moved, turned])
    copied = np.clip(copied + rng.normal(0, 0.02, copied.shape), 0, 1)
    train, samples = digest(sets["train"]), digest(np.concatenate([copied, sets["new"]]))
    nearest = {"test": copies.find_nearest(digest(sets["test"]), train), "samples": copies.find_nearest(samples, train)}
    assert nearest["samples"].index[:4].tolist() == [5, 17, 30, 20]
    assert nearest["samples"].mirror[:4].tolist() == ["none", "rows", "none", "columns"]
    pictures = train.thumbnails.astype(np.float64).reshape(-1, 64, 64)
    shown = [
        np.roll(turned, (down, right), axis=(1, 2)).reshape(len(pictures), -1)
        for turned in (pictures, pictures[:, ::-1], pictures[:, :, ::-1])
        for down in (-1, 0, 1)
        for right in (-1, 0, 1)
    ]
    flat = samples.thumbnails[:, None].astype(np.float64)
    least = np.min([((flat - one[None]) ** 2).mean(axis=2).min(axis=1) for one in shown], axis=0)
    np.testing.assert_allclose(nearest["samples"].distance, np.sqrt(least), atol=1e-6)
    report = copies.count_copies(nearest)
    assert report["samples"]["near_copies"] == 4
    assert report["test"]["near_copies"] == 0
    assert report["test"]["median_over_test"] == 1


def test_grey_values_and_spectrum_tell_brightness_and_blur(sets: dict[str, np.ndarray]) -> None:
    train, test = digest(sets["train"]), digest(sets["test"])
    dark = {"samples": digest(sets["test"] * 0.8)}
    shift = comparison.compare_grey_values(train, test, dark)["samples_test"]
    inside = sets["test"][sets["test"] > 0]
    assert shift == pytest.approx(0.2 * inside.mean(), rel=0.15)
    soft = {"samples": digest(np.stack([gaussian_filter(one, 1.0) for one in sets["test"]]))}
    spectrum = comparison.compare_spectra(train, test, soft)
    assert spectrum["samples_test"] > 4 * spectrum["train_test"]
    assert spectrum["samples_above_quarter_cycle_db"] < -5


def test_areas_are_held_against_their_position(sets: dict[str, np.ndarray]) -> None:
    train, new = digest(sets["train"]), digest(sets["new"])
    at = {name: np.array(NUMBERS * (len(slices) // len(NUMBERS))) for name, slices in sets.items()}
    others = {"right": (new, at["new"]), "wrong": (new, at["new"][::-1].copy()), "none": (new, at["new"] * 0 - 1)}
    report = comparison.compare_positions(train, at["train"], others)["brain_area"]
    assert report["right"]["slices"] == 16
    assert report["right"]["deviations"] < report["wrong"]["deviations"]
    assert report["right"]["correlation"] > 0.5 > report["wrong"]["correlation"]
    assert report["none"] == {"deviations": None, "correlation": None, "slices": 0}
