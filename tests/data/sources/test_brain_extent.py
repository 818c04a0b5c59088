"""The brain is found with and without a skull, and slices are centred on it."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage.filters import threshold_otsu

from vqdist.data.sources.brain_extent import BrainExtent, find_threshold
from vqdist.data.sources.volumes import find_limits, slice_volume

ONE_MM = np.ones(3)
BRAIN_PLANES = (70, 150)  # lowest and highest plane of the synthetic brain


def draw_head(*, skull: bool) -> np.ndarray:
    """Return a head of 160 x 180 x 200 voxels of 1 mm: a brain, a dark skull, a bright scalp, and a neck."""
    x, y, z = np.meshgrid(np.arange(160) - 80, np.arange(180) - 90, np.arange(200) - 110, indexing="ij")
    radius = np.sqrt((x / 60) ** 2 + (y / 75) ** 2 + (z / 40) ** 2)
    head = np.where(radius < 1, 100.0, 0.0)
    if skull:
        outer = np.sqrt((x / 74) ** 2 + (y / 88) ** 2 + (z / 54) ** 2)
        scalp = (outer < 1) & (np.sqrt((x / 67) ** 2 + (y / 82) ** 2 + (z / 47) ** 2) > 1)
        neck = (np.hypot(x, y + 20) < 35) & (z < -48)
        head[scalp] = 250
        head[neck & (radius > 1.15)] = 120
        head[(np.hypot(x, y) < 5) & (z < -38) & (z > -60)] = 100  # the spinal cord joins the brain to the neck
    return gaussian_filter(head + np.random.default_rng(0).normal(0, 1, head.shape), 0.7).astype(np.float32)


@pytest.mark.parametrize("skull", [False, True])
def test_the_extent_is_that_of_the_brain(skull: bool) -> None:
    volume = draw_head(skull=skull)
    found = BrainExtent.find(volume, ONE_MM)
    assert (found.low * 200, found.high * 200) == pytest.approx(BRAIN_PLANES, abs=6)
    assert (found.inside is None) is not skull
    assert found.start(200, 32) == pytest.approx(110 - 16, abs=4)
    low, high = find_limits(volume, found)
    assert (low, high) == pytest.approx((0, 103), abs=6)  # the scalp, 250, does not darken the brain


def test_slices_are_centred_on_the_brain_wherever_it_is(tmp_path: Path) -> None:
    volume = draw_head(skull=False)
    pictures = []
    for name, margin in (("a", (0, 60)), ("b", (60, 0))):
        padded = np.pad(np.maximum(volume, 0), ((0, 0), (0, 0), margin))
        nibabel.Nifti1Image(padded, np.eye(4)).to_filename(tmp_path / f"{name}.nii")
        pictures.append(slice_volume(tmp_path / f"{name}.nii", num_slices=8, image_size=64).astype(int))
    areas = [(picture > 40).sum(axis=(1, 2)) for picture in pictures]
    np.testing.assert_allclose(areas[0], areas[1], rtol=0.03)
    assert areas[0][3] == pytest.approx(areas[0].max(), rel=0.01)


def test_a_start_is_inside_the_volume() -> None:
    assert BrainExtent(0.0, 0.1, None).start(100, 32) == 0
    assert BrainExtent(0.9, 1.0, None).start(100, 32) == 68
    assert BrainExtent(0.2, 0.4, None).start(20, 32) == 0


@pytest.mark.parametrize("values", [np.zeros((4, 5, 6)), np.full((1, 1, 3), np.nan), np.ones((70, 2, 2))])
def test_volumes_without_contrast_are_brain_everywhere(values: np.ndarray) -> None:
    found = BrainExtent.find(values.astype(np.float32), ONE_MM)
    assert (found.low, found.high, found.inside) == (0, 1, None)


def test_the_threshold_is_that_of_otsu() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(20, 5, 4000), rng.normal(90, 15, 2000)]).astype(np.float32)
    assert find_threshold(torch.from_numpy(values)) == pytest.approx(threshold_otsu(values, nbins=256), abs=1.5)
