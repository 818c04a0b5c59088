"""Reconstruction of NIfTI volumes in any orientation."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from support import save_vqvae
from support.volumes import AXES, draw_asymmetric, save_oriented

from vqdist.inference.volume_reconstruction import is_volume, reconstruct_volume
from vqdist.models.vqvae import VQVAE


def read_canonical(path: str | Path) -> np.ndarray:
    return np.asarray(nibabel.as_closest_canonical(nibabel.load(path)).dataobj, np.float32)


@pytest.mark.parametrize("axes", AXES)
def test_voxels_return_to_their_places(axes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VQVAE, "reconstruct", lambda _, images: images)
    source = save_oriented(tmp_path / "head.nii.gz", axes, angle=12.0, side_mm=7.0)
    report = reconstruct_volume(save_vqvae(tmp_path / "run"), source, tmp_path / "out")
    assert report["volume"] == str(tmp_path / "out/head-reconstructed.nii.gz")
    assert report["metrics"]["ssim"] == pytest.approx(1.0)
    found, before = nibabel.load(report["volume"]), nibabel.load(source)
    np.testing.assert_array_equal(found.affine, before.affine)
    for name in ("dim", "pixdim", "datatype", "sform_code", "qform_code", "descrip", "xyzt_units"):
        np.testing.assert_array_equal(found.header[name], before.header[name], err_msg=name)
    values = read_canonical(report["volume"])
    assert np.corrcoef(values.ravel(), draw_asymmetric().ravel())[0, 1] > 0.9  # 256 mm become 32 pixels
    assert np.corrcoef(values[::-1].ravel(), draw_asymmetric().ravel())[0, 1] < 0.9


def test_all_slices_are_reconstructed_by_the_model(tmp_path: Path) -> None:
    run = save_vqvae(tmp_path / "run", channels=3)
    found = []
    for axes in AXES:
        source = save_oriented(tmp_path / f"{axes}.nii", axes, dtype="f4")
        report = reconstruct_volume(run, source, tmp_path / axes)
        assert Path(report["volume"]).name == f"{axes}-reconstructed.nii"
        assert report["pictures"] == 14  # the first and the last slice are black
        found.append(read_canonical(report["volume"]))
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], atol=0.5)
    assert found[0].std(axis=(0, 1)).min() > 0
    assert Path(report["overview"]).is_file()


def test_names_of_volumes(tmp_path: Path) -> None:
    save_oriented(tmp_path / "a.nii", "RAS")
    (tmp_path / "folder.nii").mkdir()
    names = ("a.nii", "folder.nii", "missing.nii")
    assert [is_volume(tmp_path / name) for name in names] == [True, False, False]
    assert torch.is_inference_mode_enabled() is False
