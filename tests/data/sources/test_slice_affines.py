"""Affines of slices whose files have none."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image
from support.volumes import save_oriented

from vqdist import shard
from vqdist.data.shards.manifest import MANIFEST, Manifest, load_manifest
from vqdist.data.sources.phantom import FIELD_OF_VIEW_MM
from vqdist.data.sources.slice_affines import centred_affine, oasis_affine
from vqdist.foundation.command import run_command
from vqdist.foundation.errors import DataError


def test_the_commissure_is_the_origin_of_oasis_slices() -> None:
    affine = np.array(oasis_affine(256))
    # Voxel (88, 123, 75) of a T88 volume, in a frame with 40 rows and 24 columns of padding, from plane 72 on.
    np.testing.assert_array_equal(affine @ [88 + 40, 123 + 24, 75 - 72, 1], [0, 0, 0, 1])
    half = np.array(oasis_affine(128))
    # The middle of 2 x 2 pixels is that of one pixel of half the resolution.
    np.testing.assert_allclose(half @ [10, 20, 5, 1], affine @ [20.5, 40.5, 5, 1])


def test_the_middle_of_the_picture_is_the_origin() -> None:
    affine = np.array(centred_affine(0.5, 64))
    np.testing.assert_allclose(affine @ [31.5, 31.5, 7, 1], [0, 0, 7, 1])


def shard_folder(source: Path | str, out: Path, *words: str) -> Manifest:
    assert run_command(shard.main, [str(source), str(out), "--image-size", "32", *words]) == 0
    return load_manifest(out)


def test_a_dataset_keeps_the_affine_of_its_first_volume(tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    for name in ("sub-01", "sub-02", "sub-03"):
        path = save_oriented(tmp_path / "scans" / f"{name}.nii.gz", "LAS", angle=15.0)
    manifest = shard_folder(tmp_path / "scans", tmp_path / "data", "--num-slices", "10", "--split", "1", "0", "0")
    affine = np.array(manifest.affine)
    assert nibabel.aff2axcodes(affine) == ("R", "A", "S")
    np.testing.assert_allclose(np.linalg.norm(affine[:3, :3], axis=0), [3 * 24 / 32, 3 * 24 / 32, 3])
    file = nibabel.load(path)
    middle = file.affine @ [9.5, 11.5, 7.5, 1]  # of the volume; its 10 middle planes are 3 to 12
    np.testing.assert_allclose(affine @ [15.5, 15.5, 4.5, 1], middle, atol=1e-4)
    changed = json.loads((tmp_path / "data" / MANIFEST).read_text()) | {"affine": [[1, 2], [3, 4]]}
    with pytest.raises(DataError, match=r"affine: found .*; expected 4 rows of 4 numbers"):
        Manifest.from_json(changed)


def test_layouts_without_affine(tmp_path: Path) -> None:
    demo = shard_folder("demo", tmp_path / "demo", "--num-subjects", "3", "--num-slices", "2")
    assert demo.affine == centred_affine(FIELD_OF_VIEW_MM / 32, 32)
    for folder, name in (("oasis/keras_png_slices_train", "case_001_slice_{}.nii.png"), ("other/a", "p{}.png")):
        (tmp_path / folder).mkdir(parents=True)
        for number in range(4):
            Image.fromarray(np.full((64, 64), 90, np.uint8)).save(tmp_path / folder / name.format(number))
    oasis = shard_folder(tmp_path / "oasis", tmp_path / "oasis-data")
    assert oasis.affine == oasis_affine(32)
    other = shard_folder(tmp_path / "other", tmp_path / "other-data")
    assert other.affine is None
    assert "affine" not in json.loads((tmp_path / "other-data" / MANIFEST).read_text())
