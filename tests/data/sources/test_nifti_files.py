"""Written NIfTI files: slices with their affine, and volumes with the header of another one."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
from support.volumes import AXES, draw_asymmetric, save_oriented

from vqdist.data.sources.nifti_files import write_like, write_slices
from vqdist.data.sources.slice_affines import centred_affine
from vqdist.data.sources.volumes import slice_volume


def test_slices_are_a_volume_that_shard_cuts_into_the_same_slices(tmp_path: Path) -> None:
    slices = np.random.default_rng(0).integers(0, 120, (5, 1, 256, 256), dtype=np.uint8)
    affine = centred_affine(1.0, 256)
    path = write_slices(slices, affine, tmp_path / "a.nii.gz")
    file = nibabel.load(path)
    assert file.get_data_dtype() == np.uint8
    assert file.header.get_zooms() == (1, 1, 1)
    assert file.header.get_xyzt_units()[0] == "mm"
    assert nibabel.aff2axcodes(file.affine) == ("R", "A", "S")
    np.testing.assert_array_equal(file.affine, affine)
    np.testing.assert_array_equal(np.asarray(file.dataobj), slices[:, 0].transpose(1, 2, 0))
    np.testing.assert_array_equal(slice_volume(path, num_slices=5, image_size=256), slices[:, 0])
    assert path.read_bytes() == write_slices(slices, affine, tmp_path / "b.nii.gz").read_bytes()


def test_colour_becomes_the_mean_of_the_channels(tmp_path: Path) -> None:
    slices = np.stack([np.full((4, 4), value, np.uint8) for value in (10, 20, 60)])[None].repeat(2, axis=0)
    assert (np.asarray(nibabel.load(write_slices(slices, np.eye(4), tmp_path / "a.nii")).dataobj) == 30).all()


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("dtype", ["i2", "u1", "f4"])
def test_the_header_of_another_volume_stays(tmp_path: Path, axes: str, dtype: str) -> None:
    source = save_oriented(tmp_path / "source.nii.gz", axes, angle=20.0, dtype=dtype)
    before = nibabel.load(source)
    found = nibabel.load(write_like(draw_asymmetric(), source, tmp_path / "out.nii.gz"))
    np.testing.assert_allclose(np.asarray(found.dataobj), np.asarray(before.dataobj), atol=0.5)
    np.testing.assert_array_equal(found.affine, before.affine)
    for name in (
        "dim",
        "pixdim",
        "datatype",
        "sform_code",
        "qform_code",
        "srow_x",
        "quatern_b",
        "descrip",
        "xyzt_units",
    ):
        np.testing.assert_array_equal(found.header[name], before.header[name], err_msg=name)


def test_fractions_fit_into_integers(tmp_path: Path) -> None:
    source = save_oriented(tmp_path / "source.nii", "LAS", dtype="u1")
    values = draw_asymmetric() / 255
    found = np.asarray(nibabel.load(write_like(values, source, tmp_path / "out.nii")).dataobj)
    np.testing.assert_allclose(found[::-1], values, atol=1 / 500)
