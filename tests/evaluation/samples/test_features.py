"""Features respond to scale, orientation and brightness; the distance between sets is unbiased."""

import numpy as np
import pytest
import torch

from vqdist.evaluation.samples import features


def test_distance_equals_a_plain_double_sum() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(7, 5)), rng.normal(0.3, 1, size=(9, 5))

    def mean(one: np.ndarray, other: np.ndarray, *, same: bool) -> float:
        pairs = [(x, y) for i, x in enumerate(one) for j, y in enumerate(other) if not same or i != j]
        return np.mean([np.linalg.norm(x - y) for x, y in pairs])

    expected = 2 * mean(first, second, same=False) - mean(first, first, same=True) - mean(second, second, same=True)
    assert features.energy_distance(first, second) == pytest.approx(expected)


def test_distance_is_unbiased_and_grows_with_the_shift() -> None:
    rng = np.random.default_rng(0)
    alike = [features.energy_distance(rng.normal(size=(8, 3)), rng.normal(size=(12, 3))) for _ in range(400)]
    assert abs(np.mean(alike)) < 3 * np.std(alike) / 20
    assert min(alike) < 0 < max(alike)
    base = rng.normal(size=(100, 3))
    apart = [features.energy_distance(base, rng.normal(shift, 1, size=(100, 3))) for shift in (0, 0.5, 1, 10, 20)]
    assert apart == sorted(apart)
    assert apart[-1] == pytest.approx(2 * apart[-2], rel=0.3)


def test_paired_distance_of_a_set_to_itself_is_zero() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(size=(40, 3))
    near = base + rng.normal(0, 0.01, size=base.shape)
    assert features.energy_distance(base, base.copy(), paired=True) == pytest.approx(0, abs=1e-6)
    assert abs(features.energy_distance(near, base, paired=True)) < 0.002
    assert features.energy_distance(near, base) < -0.05  # equal rows count as pairs of different slices


@pytest.mark.parametrize("angle", [0, 30, 90])
def test_filters_respond_to_their_scale_and_orientation(angle: int) -> None:
    wavelength, theta = 8, np.deg2rad(angle)
    y, x = torch.meshgrid(torch.arange(128.0), torch.arange(128.0), indexing="ij")
    wave = 0.5 + 0.5 * torch.sin(2 * np.pi / wavelength * (np.cos(theta) * x + np.sin(theta) * y))
    found = features.compute_features(wave[None, None])[0]
    cells = features.SCALES * features.ORIENTATIONS
    texture = found[: cells * features.POOL**2].reshape(features.SCALES, features.ORIENTATIONS, -1).mean(dim=2)
    scale, orientation = divmod(int(texture.argmax()), features.ORIENTATIONS)
    assert (scale, orientation) == (1, angle // 30)


def test_brightness_cells_are_local_means() -> None:
    images = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    found = features.compute_features(images)[:, -(features.BRIGHTNESS_POOL**2) :]
    expected = images.mean(dim=1).reshape(2, 8, 16, 8, 16).mean(dim=(2, 4)).flatten(1)
    torch.testing.assert_close(found, expected)


def test_scaled_features_of_the_reference_have_unit_deviation() -> None:
    reference = np.random.default_rng(0).normal(3, [0.5, 2, 1], size=(500, 3))
    reference = np.concatenate([reference, np.full((500, 1), 7.0)], axis=1)
    scaled = features.Scaling(reference)(reference)
    np.testing.assert_allclose(scaled.std(axis=0) * 2, [1, 1, 1, 0], atol=1e-9)
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-12)
