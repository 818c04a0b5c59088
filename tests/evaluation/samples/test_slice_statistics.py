"""Histograms, spectra and areas of slices with known results."""

from dataclasses import fields

import numpy as np
import pytest
import torch

from vqdist.data.sources.phantom import phantom_slice
from vqdist.evaluation.samples.slice_statistics import (
    GREY_BINS,
    SPECTRUM_BINS,
    SliceStatistics,
    grey_histogram,
    measure_areas,
    power_spectrum,
)


def test_histogram_ignores_the_background() -> None:
    grey = torch.zeros(2, 8, 8)
    grey[0, 0, :5] = torch.tensor([0.5, 0.5, 1.0, 4 / 64, 1 / 255])
    found = grey_histogram(grey).numpy()
    expected = np.zeros(GREY_BINS)
    expected[[3, 31, 63]] = [0.25, 0.5, 0.25]
    np.testing.assert_allclose(found[0], expected)
    np.testing.assert_allclose(found[1], 0)


@pytest.mark.parametrize("cycles", [3, 9, 25])
def test_spectrum_of_a_wave_is_in_its_ring(cycles: int) -> None:
    wave = torch.sin(2 * torch.pi * cycles * torch.arange(64) / 64).expand(1, 64, 64)
    found = power_spectrum(wave)[0]
    # Ring r begins at r / 64 cycles per pixel, which is r cycles in 64 pixels.
    assert int(found.argmax()) == cycles
    assert found[cycles] > 100 * found.sum() - 100 * found[cycles]


def test_spectrum_keeps_the_power_of_noise() -> None:
    noise = torch.randn(4, 96, 80, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(power_spectrum(noise).mean(dim=0)[2:], np.ones(SPECTRUM_BINS - 2), atol=0.35)


def test_areas_of_a_disc_with_a_hole() -> None:
    y, x = torch.meshgrid(torch.arange(128.0), torch.arange(128.0), indexing="ij")
    radius = torch.hypot(y - 63.5, x - 63.5)
    grey = 0.8 * (radius < 40).float()
    grey[radius < 3] = 0.0
    grey[(radius > 36) & (radius < 38)] = 0.1  # a sulcus, too close to the surface to count
    brain, ventricle = measure_areas(grey[None])
    assert brain.item() == pytest.approx(np.pi * 40**2 / 128**2, rel=0.03)
    inner = torch.hypot((y - 63.5).abs() + 16, (x - 63.5).abs() + 16) < 40
    assert ventricle.item() == pytest.approx((radius < 3).sum().item() / inner.sum().item(), rel=0.05)
    assert [value.item() for value in measure_areas(torch.zeros(1, 32, 32))] == [0, 0]


def test_statistics_are_concatenated_in_order() -> None:
    slices = np.stack([phantom_slice(subject, 16, image_size=64) for subject in range(5)])
    images, numbers = torch.tensor(slices)[:, None] / 255, np.arange(5)
    names = np.array([f"s{number}" for number in range(len(images))])
    whole = SliceStatistics.measure(images, numbers, names)
    parts = [SliceStatistics.measure(images[part], numbers[part], names[part]) for part in (slice(2), slice(2, None))]
    joined = SliceStatistics.concatenate(parts)
    assert len(joined) == 5
    assert joined.slice_numbers.tolist() == [0, 1, 2, 3, 4]
    for field in fields(SliceStatistics):
        found, expected = getattr(joined, field.name), getattr(whole, field.name)
        if field.name == "subjects":
            assert found.tolist() == expected.tolist()
        else:
            np.testing.assert_allclose(found, expected, atol=1e-5)
