"""Copies of training slices are found, also mirrored and shifted ones."""

import numpy as np
import pytest
import torch

from vqdist.data.sources.phantom import phantom_slice
from vqdist.evaluation.samples.copies import count_copies, find_distance_ratios, find_nearest
from vqdist.evaluation.samples.slice_statistics import SliceStatistics

NUMBERS = (4, 12, 20, 28)


def draw(subjects: range) -> np.ndarray:
    """Return synthetic slices, (N, 64, 64) in [0, 1]."""
    slices = [phantom_slice(subject, number, image_size=64) for subject in subjects for number in NUMBERS]
    return np.stack(slices).astype(np.float32) / 255


def measure(slices: np.ndarray) -> SliceStatistics:
    images = torch.from_numpy(np.ascontiguousarray(slices, dtype=np.float32))[:, None]
    return SliceStatistics.measure(images, np.full(len(slices), -1))


def test_mirrored_and_shifted_copies_are_found() -> None:
    rng = np.random.default_rng(0)
    train_slices = draw(range(12))
    up_down, left_right = train_slices[17, ::-1], train_slices[20, :, ::-1]
    shifted = np.roll(train_slices[30], (1, -1), axis=(0, 1))
    copies = np.stack([train_slices[5], up_down, shifted, left_right])
    copies = np.clip(copies + rng.normal(0, 0.02, copies.shape), 0, 1)
    train, samples = measure(train_slices), measure(np.concatenate([copies, draw(range(30, 34))]))
    nearest = {"test": find_nearest(measure(draw(range(20, 24))), train), "samples": find_nearest(samples, train)}
    assert nearest["samples"].index[:4].tolist() == [5, 17, 30, 20]
    assert nearest["samples"].mirror[:4].tolist() == ["none", "up-down", "none", "left-right"]
    images = train.thumbnails.astype(np.float64).reshape(-1, 64, 64)
    views = [
        np.roll(mirrored, (down, right), axis=(1, 2)).reshape(len(images), -1)
        for mirrored in (images, images[:, ::-1], images[:, :, ::-1])
        for down in (-1, 0, 1)
        for right in (-1, 0, 1)
    ]
    flat = samples.thumbnails[:, None].astype(np.float64)
    smallest = np.sqrt(np.min([((flat - view[None]) ** 2).mean(axis=2).min(axis=1) for view in views], axis=0))
    np.testing.assert_allclose(nearest["samples"].distance, smallest, atol=1e-6)
    report = count_copies(nearest)
    assert report["samples"]["near_copies"] == 4
    assert report["test"]["near_copies"] == 0
    assert report["test"]["median_over_test"] == 1
    median = np.median(nearest["test"].distance)
    assert report["threshold"] == pytest.approx(median / 2)
    np.testing.assert_allclose(find_distance_ratios(nearest), smallest / median, atol=1e-5)


def test_test_slices_that_are_all_in_train_have_no_ratio() -> None:
    train = measure(draw(range(2)))
    nearest = {name: find_nearest(train, train) for name in ("test", "samples")}
    report = count_copies(nearest)
    assert report["samples"]["median_over_test"] is None
    assert (report["threshold"], report["samples"]["near_copies"]) == (0, 0)
    assert find_distance_ratios(nearest).tolist() == [0] * 8
