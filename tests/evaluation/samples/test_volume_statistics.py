"""Statistics of whole volumes."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from vqdist.evaluation.samples.slice_statistics import SliceStatistics
from vqdist.evaluation.samples.volume_statistics import VolumeStatistics, measure_drift, measure_flips
from vqdist.metrics.images import compute_image_metrics


def test_neighbours_of_a_volume() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(5, 1, 32, 32, generator=generator).clamp(min=0.01)
    images[:, :, :8] = 0  # outside of the brain
    codes = torch.randint(3, (5, 4, 4), generator=generator)
    found = VolumeStatistics.measure(images, codes)
    np.testing.assert_allclose(found.ssim, compute_image_metrics(images[:-1], images[1:])["ssim"], rtol=1e-5)
    expected = [(codes[n] == codes[n + 1]).double().mean() for n in range(4)]
    np.testing.assert_allclose(found.agreement, expected)
    expected = [(images[n] - images[n + 1]).abs()[:, 8:].mean() for n in range(4)]
    np.testing.assert_allclose(found.difference, expected, rtol=1e-5)
    both = VolumeStatistics.concatenate([found, VolumeStatistics.measure(images, None)]).describe()
    assert both["volumes"] == 2
    assert both["ssim"] == {"mean": pytest.approx(found.ssim.mean()), "spread": pytest.approx(found.ssim.std())}
    assert VolumeStatistics.measure(images, None).describe()["agreement"] is None


def test_flips_are_pixels_that_change_and_change_back() -> None:
    fluid = torch.zeros(4, 8, 8, dtype=torch.bool)
    fluid[:, 2:6, 2:6] = True  # 16 pixels in each of the two inner slices
    assert measure_flips(fluid) == 0
    fluid[1, 2, 2] = False  # lacks it between two that have it
    fluid[2, 0, 0] = True  # has it alone
    assert measure_flips(fluid) == pytest.approx(2 / 32)
    fluid[3, 0, 0] = True  # grows from slice 2 on
    assert measure_flips(fluid) == pytest.approx(1 / 32)
    assert measure_flips(torch.zeros_like(fluid)) == 0


def build_set(seed: int, shift: float = 0.0) -> SliceStatistics:
    """Return slices 0 to 31 of 12 volumes whose features move by `shift` along z."""
    rng = np.random.default_rng(seed)
    numbers = np.tile(np.arange(32), 12)
    features = rng.normal(size=(len(numbers), 20)) + shift * numbers[:, None] / 31
    empty = {field.name: np.zeros((len(numbers), 1)) for field in fields(SliceStatistics)}
    subjects = np.repeat([f"volume {seed} {number}" for number in range(12)], 32)
    return SliceStatistics(**(empty | {"features": features, "slice_numbers": numbers, "subjects": subjects}))


def test_the_drift_compares_the_last_slices_with_the_first() -> None:
    sets = {"train": build_set(0, 0.5), "test": build_set(1), "samples": build_set(2, 3.0)}
    found = measure_drift(sets)
    assert found["samples"]["last"] > 5 * found["samples"]["first"]
    assert found["samples"]["ratio"] == pytest.approx(found["samples"]["last"] / found["samples"]["first"])
    assert found["train"]["last"] < found["samples"]["last"]
    few = replace(sets["samples"], slice_numbers=np.full(384, 40))
    assert measure_drift(sets | {"samples": few})["samples"] == {"first": None, "last": None, "ratio": None}


def test_black_volumes_have_no_grey_difference() -> None:
    found = VolumeStatistics.measure(torch.zeros(3, 1, 32, 32), None).describe()
    assert (found["difference"], found["agreement"]) == (None, None)
