"""The slices in a folder of samples and their slice numbers."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vqdist.data.shards.manifest import Manifest
from vqdist.evaluation.samples.sample_folder import SampleFolder
from vqdist.foundation.errors import DataError

REAL = Manifest("images", (32, 32), 1, {})


def write_slices(folder: Path, *names: str) -> None:
    for grey, name in enumerate(names):
        Image.new("L", (32, 32), grey).save(folder / name)


def test_samples_json_lists_the_slices(tmp_path: Path) -> None:
    write_slices(tmp_path, "b.png", "a.png", "grid.png", "other.png")
    samples = [
        {"file": "b.png", "slice": 7, "label": 2, "subject": "volume 1"},
        {"file": "a.png", "slice": None, "label": 2**70},
    ]
    (tmp_path / "samples.json").write_text(json.dumps({"samples": samples}))
    folder = SampleFolder.open(tmp_path)
    assert [path.name for path in folder.paths] == ["b.png", "a.png"]
    assert folder.slice_numbers.tolist() == [7, -1]
    assert folder.labels.tolist() == [2, -1]
    assert folder.subjects.tolist() == ["volume 1", "a.png"]
    images = folder.read(np.array([1, 0, 1]), REAL)
    assert images.shape == (3, 1, 32, 32)
    assert (images[:, 0, 0, 0] * 255).tolist() == [1, 0, 1]


def test_other_folders_have_slices_without_numbers(tmp_path: Path) -> None:
    write_slices(tmp_path, "b.png", "a.png", "grid.png")
    folder = SampleFolder.open(tmp_path)
    assert [path.name for path in folder.paths] == ["a.png", "b.png"]
    assert folder.slice_numbers.tolist() == folder.labels.tolist() == [-1, -1]


def test_unusable_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: found no such folder; expected a folder of slices, as `vqdist sam"):
        SampleFolder.open(tmp_path / "nowhere")
    with pytest.raises(DataError, match="found 0 PNGs; expected at least two"):
        SampleFolder.open(tmp_path)
    write_slices(tmp_path, "a.png", "grid.png")
    with pytest.raises(DataError, match=r"a\.png: found a file; expected a folder of slices"):
        SampleFolder.open(tmp_path / "a.png")
    with pytest.raises(DataError, match="found 1 PNG;"):
        SampleFolder.open(tmp_path)
    for text in ('{"samples": [{"file": "../a.png"}]}', '{"samples": [{"file": 1}]}', '{"samples": 1}', "[]"):
        (tmp_path / "samples.json").write_text(text)
        with pytest.raises(DataError, match=r"samples\.json: found no list of samples"):
            SampleFolder.open(tmp_path)


def test_unusable_slices_are_named(tmp_path: Path) -> None:
    write_slices(tmp_path, "a.png", "b.png")
    folder = SampleFolder.open(tmp_path)
    (tmp_path / "a.png").unlink()
    with pytest.raises(DataError, match=r"a\.png: found No such file"):
        folder.read(np.array([0]), REAL)
    with pytest.raises(DataError, match=r"b\.png: found 32 x 32 pixels"):
        folder.read(np.array([1]), Manifest("images", (16, 16), 1, {}))
