"""Features respond to scale, orientation and brightness; the distance between sets of people is unbiased."""

import numpy as np
import pytest
import torch

from vqdist.evaluation.samples import features


def names(count: int, prefix: str, each: int = 1) -> np.ndarray:
    return np.repeat([f"{prefix}{number}" for number in range(-(-count // each))], each)[:count]


def distance(first: np.ndarray, second: np.ndarray, *owners: np.ndarray) -> float:
    given = owners or (names(len(first), "a"), names(len(second), "b"))
    found = features.energy_distance(first, second, *given)
    assert found is not None
    return found.mean


def test_distance_equals_a_plain_double_sum_without_pairs_of_a_subject() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(7, 5)), rng.normal(0.3, 1, size=(9, 5))
    owners, others = names(7, "a", 2), names(9, "b", 3)
    others[:2] = "a0"  # this subject is in both sets

    def mean(one: np.ndarray, other: np.ndarray, left: np.ndarray, right: np.ndarray) -> float:
        pairs = [(x, y) for x, i in zip(one, left, strict=True) for y, j in zip(other, right, strict=True) if i != j]
        return float(np.mean([np.linalg.norm(x - y) for x, y in pairs]))

    within = mean(first, first, owners, owners) + mean(second, second, others, others)
    expected = 2 * mean(first, second, owners, others) - within
    assert distance(first, second, owners, others) == pytest.approx(expected)


def test_slices_of_one_person_do_not_make_two_sets_of_people_differ() -> None:
    """With the pairs of one person, 6 and 8 people of the same distribution are far apart."""
    rng = np.random.default_rng(0)
    masked, plain = [], []
    for _ in range(60):
        sets = [np.repeat(rng.normal(size=(n, 3)), 5, axis=0) + rng.normal(0, 0.1, (5 * n, 3)) for n in (6, 8)]
        masked.append(distance(*sets, names(30, "a", 5), names(40, "b", 5)))
        plain.append(distance(*sets))
    assert abs(np.mean(masked)) < 3 * np.std(masked) / np.sqrt(60)
    assert np.mean(plain) > 10 * abs(np.mean(masked))


def test_the_interval_of_a_distance_contains_it_in_most_cases() -> None:
    rng = np.random.default_rng(0)
    shift = np.array([1.0, 0.0, 0.0])
    one, other, again, shifted = (rng.normal(size=(3000, 3)) for _ in range(4))
    mean = [np.linalg.norm(x - y, axis=1).mean() for x, y in ((one, other + shift), (one, again), (other, shifted))]
    truth = 2 * mean[0] - mean[1] - mean[2]
    found = [
        features.energy_distance(
            rng.normal(size=(12, 3)), rng.normal(size=(10, 3)) + shift, names(12, "a"), names(10, "b")
        )
        for _ in range(150)
    ]
    inside = [one.low <= truth <= one.high for one in found]  # type: ignore[union-attr, operator]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.06)


def test_few_subjects_have_no_interval_and_one_has_no_distance() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(6, 3)), rng.normal(size=(6, 3))
    two = features.energy_distance(first, second, names(6, "a", 3), names(6, "b"))
    assert two is not None
    assert two.low is None
    assert features.energy_distance(first, second, names(6, "a", 6), names(6, "b")) is None


def test_distance_grows_with_the_shift() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(size=(100, 3))
    apart = [distance(base, rng.normal(shift, 1, size=(100, 3))) for shift in (0, 0.5, 1, 10, 20)]
    assert apart == sorted(apart)
    assert apart[-1] == pytest.approx(2 * apart[-2], rel=0.3)


def test_the_distance_of_a_set_to_itself_is_zero() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(size=(40, 3))
    near = base + rng.normal(0, 0.01, size=base.shape)
    own = names(40, "a", 4)
    assert distance(base, base.copy(), own, own) == pytest.approx(0, abs=1e-6)
    assert abs(distance(near, base, own, own)) < 0.002


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
