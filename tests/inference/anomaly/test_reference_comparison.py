"""Comparison with reference slices: distance, deviation and the range of grey values."""

import numpy as np
import torch
from scipy import ndimage

from vqdist.inference.anomaly.method import ScoringMethod
from vqdist.inference.anomaly.reference_comparison import compare_with_references

S = 64
METHOD = ScoringMethod(
    patch_sigma=1.0 / S, patch_reach=2 / S, patch_quantile=0.5, deviation_sigma=1.0 / S, range_reach=3 / S,
    range_quantile=0.25, mirror_reach=2 / S,
)  # fmt: skip


def build_images(num: int, seed: int = 0) -> torch.Tensor:
    """Return smooth slices with an empty border, (num, 1, S, S) uint8."""
    noise = np.random.default_rng(seed).normal(size=(num, S, S))
    smoothed = ndimage.gaussian_filter(noise, (0, 3, 3))
    values = 128 + 40 * smoothed / smoothed.std()
    values[:, :12] = values[:, -12:] = values[:, :, :12] = values[:, :, -12:] = 0
    return torch.from_numpy(values.clip(0, 255).astype(np.uint8))[:, None]


def smooth(values: np.ndarray) -> np.ndarray:
    return ndimage.gaussian_filter(values, 1.0, radius=3, mode="nearest")


def test_the_distance_is_that_of_a_search_over_all_shifts() -> None:
    images = build_images(4)
    image, references = images[0].float() / 255, images[1:]
    found = compare_with_references(image, references, METHOD).distance
    x, others = image[0].double().numpy(), references[:, 0].double().numpy() / 255
    nearest = []
    for other in others:
        padded = np.pad(other, 2)
        shifted = [padded[down : down + S, right : right + S] for down in range(5) for right in range(5)]
        nearest.append(np.min([smooth((candidate - x) ** 2) for candidate in shifted], axis=0))
    expected = np.sqrt(np.sort(nearest, axis=0)[1])  # the median of three
    middle = slice(16, S - 16)  # the box around the brain has borders of its own
    np.testing.assert_allclose(found[middle, middle], expected[middle, middle], atol=1e-4)


def test_a_shifted_reference_is_at_distance_0() -> None:
    image = build_images(1)[0]
    moved = torch.roll(image, (2, -1), (1, 2))[None]
    found = compare_with_references(image.float() / 255, moved, METHOD)
    assert float(found.distance.max()) < 1e-3
    assert float(found.deviation.max()) > 1  # the deviation is measured in place


def test_the_deviation_is_that_of_the_smoothed_slices() -> None:
    images = build_images(6, seed=1)
    found = compare_with_references(images[0].float() / 255, images[1:], METHOD).deviation
    smoothed = np.stack([smooth(values / 255) for values in images[:, 0].double().numpy()])
    std = smoothed[1:].std(axis=0).clip(min=0.02)
    expected = np.abs(smoothed[0] - smoothed[1:].mean(axis=0)) / std
    middle = slice(16, S - 16)
    np.testing.assert_allclose(found[middle, middle], expected[middle, middle], rtol=1e-3, atol=1e-3)


def test_the_excess_over_the_grey_values_nearby() -> None:
    images = build_images(9, seed=2)
    found = compare_with_references(images[0].float() / 255, images[1:], METHOD).outside
    smoothed = np.stack([smooth(values / 255) for values in images[:, 0].double().numpy()])
    highest = np.sort([ndimage.maximum_filter(values, 7) for values in smoothed[1:]], axis=0)[
        5
    ]  # the two above do not count
    lowest = np.sort([ndimage.minimum_filter(values, 7) for values in smoothed[1:]], axis=0)[2]
    expected = (smoothed[0] - highest).clip(min=0) + (lowest - smoothed[0]).clip(min=0)
    middle = slice(18, S - 18)
    assert expected[middle, middle].max() > 0.05
    np.testing.assert_allclose(found[middle, middle], expected[middle, middle], atol=1e-4)


def test_the_asymmetry_is_the_distance_to_the_mirrored_slice() -> None:
    image, references = build_images(1, seed=3)[0].float() / 255, build_images(2)
    found = compare_with_references(image, references, METHOD, symmetric=True).asymmetry
    x = image[0].double().numpy()
    padded = np.pad(x[::-1], 2)
    shifted = [padded[down : down + S, right : right + S] for down in range(5) for right in range(5)]
    expected = np.sqrt(np.min([smooth((candidate - x) ** 2) for candidate in shifted], axis=0))
    middle = slice(13, S - 13)
    assert expected[middle, middle].max() > 0.1
    np.testing.assert_allclose(found[middle, middle], expected[middle, middle], atol=1e-4)
    assert (found[:10] == 0).all()  # outside the brain
    assert (compare_with_references(image, references, METHOD).asymmetry == 0).all()
    symmetric = torch.maximum(image, image.flip(1)).roll(1, 1)  # whose middle is not that of the picture
    assert float(compare_with_references(symmetric, references, METHOD, symmetric=True).asymmetry.max()) < 1e-3


def test_an_empty_slice_and_a_large_one() -> None:
    empty = compare_with_references(torch.zeros(1, S, S), build_images(2), METHOD)
    assert (empty.distance == 0).all()
    large = torch.rand(1, 256, 256)
    found = compare_with_references(large, (large * 255).byte()[None], METHOD)  # compared at 128 x 128
    assert found.distance.shape == found.deviation.shape == (256, 256)
    assert float(found.distance.max()) < 0.01
