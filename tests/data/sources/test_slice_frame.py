"""From voxels to slices and back, and the position of slices in the body."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
from scipy.ndimage import map_coordinates
from support.volumes import AXES, draw_asymmetric, save_oriented

from vqdist.data.sources.slice_frame import SliceFrame
from vqdist.data.sources.volumes import cut_middle, open_volume


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("angle", [0.0, 12.0])
def test_the_affine_of_the_slices_finds_each_voxel(tmp_path: Path, axes: str, angle: float) -> None:
    path = save_oriented(tmp_path / "a.nii.gz", axes, angle=angle, side_mm=7.0)
    slices, affine = cut_middle(path, num_slices=60, image_size=256)
    file = nibabel.load(path)
    number, row, column = np.argwhere(slices > 0)[::97].T
    pixels = np.stack([row, column, number, np.ones_like(row)])
    places = (np.linalg.inv(file.affine) @ affine @ pixels)[:3]
    expected = map_coordinates(np.asarray(file.dataobj, np.float64), places, order=1)
    expected *= 255 / open_volume(path, image_size=256).limits[1]
    assert np.abs(slices[number, row, column] - expected).max() < 2


@pytest.mark.parametrize("axes", [*AXES, "LPI", "AIL"])
def test_the_slice_of_the_file_is_found_in_its_own_order(tmp_path: Path, axes: str) -> None:
    path = save_oriented(tmp_path / "a.nii.gz", axes, angle=12.0, side_mm=7.0)
    volume, file = open_volume(path, image_size=256), nibabel.load(path)
    found = {volume.find_voxels(number) for number in range(volume.frame.planes[2])}
    assert {axis for axis, _ in found} == {next(axis for axis, name in enumerate(axes) if name in "SI")}
    assert sorted(index for _, index in found) == list(range(16))
    for number in range(0, volume.frame.planes[2], 9):
        axis, index = volume.find_voxels(number)
        height = (volume.frame.slice_affine(volume.scan.affine, number) @ [0, 0, 0, 1])[2]
        centre = np.array([0.0, 0, 0, 1])
        centre[axis] = index
        assert abs((file.affine @ centre)[2] - height) <= 3.5 + 1e-4  # half of a voxel


def test_slices_return_to_their_voxels() -> None:
    volume = draw_asymmetric((40, 48, 30))
    frame = SliceFrame.choose((40, 48, 30), np.full(3, 3.0), 256)
    assert (frame.planes, frame.side) == ((120, 144, 90), 256)
    numbers = frame.middle(90)
    slices = np.stack([frame.cut(volume, number, (0.0, 255.0)) for number in numbers]).astype(np.float32)
    restored = frame.restore(slices, numbers.start)
    assert restored.shape == volume.shape
    assert np.abs(restored - volume).mean() < 4
    assert np.corrcoef(restored.ravel(), volume.ravel())[0, 1] > 0.99
    part = frame.middle(30)
    assert (part.start, part.stop) == (30, 60)
    low = frame.restore(slices[part.start : part.stop], part.start)
    assert not low[:, :, :10].any()
    assert not low[:, :, 20:].any()
    np.testing.assert_allclose(low[:, :, 11:19], restored[:, :, 11:19], atol=1e-3)


def test_voxels_of_one_millimetre_keep_their_values() -> None:
    volume = np.random.default_rng(0).uniform(1, 255, (128, 140, 12)).round().astype(np.float32)
    frame = SliceFrame.choose((128, 140, 12), np.ones(3), 256)
    slices = np.stack([frame.cut(volume, number, (0.0, 255.0)) for number in range(12)]).astype(np.float32)
    np.testing.assert_array_equal(slices[3, 64 : 64 + 128, 58 : 58 + 140], volume[:, :, 3])
    np.testing.assert_array_equal(frame.restore(slices, 0), volume)
    np.testing.assert_array_equal(frame.slice_affine(np.eye(4), 2)[:3, 3], [-64, -58, 2])


def test_the_frame_of_other_objects_is_their_own(tmp_path: Path) -> None:
    frame = SliceFrame.choose((10, 12, 8), np.array([0.5, 0.5, 1.0]), 24)
    assert (frame.planes, frame.side) == ((10, 12, 16), 12)
    path = save_oriented(tmp_path / "a.nii", "RAS", angle=0.0, side_mm=0.2)
    assert open_volume(path, image_size=16).frame.side == 24
