"""The samples one by one, with the conditions and bits that a full forward gives."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.models import ALONE

from vqdist.config.attributes import Attribute
from vqdist.evaluation.samples.sample_folder import SampleFolder
from vqdist.evaluation.samples.sample_table import find_picture, list_samples
from vqdist.models.pixelcnn import PixelCNN

AGE = Attribute(kind="number", low=20, high=90)
CODES = np.random.default_rng(0).integers(0, 8, (20, 4, 4))


def build_prior(condition: str = "slice") -> PixelCNN:
    torch.manual_seed(0)
    model = PixelCNN(8, hidden=8, layers=2, kernel=3, condition=condition, num_labels=2, num_slices=30).eval()
    torch.nn.init.normal_(model.head[-1].weight)
    return model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twenty samples, more than one pass, without a label."""
    samples = [{"file": f"sample-{number:05d}.png", "slice": number, "label": None} for number in range(len(CODES))]
    for sample in samples:
        Image.new("L", (8, 8)).save(tmp_path / str(sample["file"]))
    (tmp_path / "samples.json").write_text(json.dumps({"samples": samples}))
    np.save(tmp_path / "codes.npy", CODES)
    return tmp_path


def test_the_bits_are_those_of_the_sampled_codes_under_their_conditions(folder: Path) -> None:
    prior, codes = build_prior(), torch.from_numpy(CODES)
    rows = list_samples(SampleFolder.open(folder), prior, ALONE)
    assert [list(row) for row in rows] == [["file", "slice", "bits_per_code"]] * len(CODES)
    assert [(row["file"], row["slice"]) for row in rows[:2]] == [("sample-00000.png", 0), ("sample-00001.png", 1)]
    with torch.no_grad():
        logits = prior(codes, slice=torch.arange(len(CODES)))
    expected = torch.nn.functional.cross_entropy(logits, codes, reduction="none").mean(dim=(1, 2)) / np.log(2)
    np.testing.assert_allclose([row["bits_per_code"] for row in rows], expected.numpy(), rtol=1e-4)


@pytest.mark.parametrize("change", ["no codes", "other codes", "fewer codes", "no label", "no prior"])
def test_bits_that_cannot_be_computed_are_left_out(folder: Path, change: str) -> None:
    prior = None if change == "no prior" else build_prior("label" if change == "no label" else "slice")
    if change == "no codes":
        (folder / "codes.npy").unlink()
    elif change in ("other codes", "fewer codes"):
        np.save(folder / "codes.npy", CODES + 1 if change == "other codes" else CODES[:-1])
    rows = list_samples(SampleFolder.open(folder), prior, ALONE)
    assert all(row.keys() == {"file", "slice"} for row in rows)
    assert len(rows) == len(CODES)


def test_attributes_are_columns_and_conditions_of_another_prior_leave_out_the_bits(folder: Path) -> None:
    listed = json.loads((folder / "samples.json").read_text())["samples"]
    samples = [{**sample, "attributes": {"age": 50.0 if sample["slice"] else None}} for sample in listed]
    (folder / "samples.json").write_text(json.dumps({"samples": samples}))
    torch.manual_seed(0)
    names = {"condition": ["slice", "age"], "condition_dropout": 0.1, "attributes": {"age": AGE}}
    prior = PixelCNN(8, hidden=8, layers=1, kernel=3, num_slices=30, **names).eval()
    rows = list_samples(SampleFolder.open(folder), prior, ALONE)
    assert [list(row) for row in rows] == [["file", "slice", "age", "bits_per_code"]] * len(CODES)
    assert [row["age"] for row in rows[:2]] == [None, 50.0]
    others = PixelCNN(8, hidden=8, layers=1, kernel=3, num_slices=30, **(names | {"condition_dropout": 0.0})).eval()
    assert list(list_samples(SampleFolder.open(folder), others, ALONE)[0]) == ["file", "slice", "age"]


def test_a_volume_is_one_row_with_its_views_as_picture(tmp_path: Path) -> None:
    volumes = [
        {"file": f"volume-0000{number}.nii.gz", "label": number, "attributes": {"age": 60.0}} for number in (0, 1)
    ]
    (tmp_path / "samples.json").write_text(json.dumps({"slices": [3, 4, 5], "volumes": volumes}))
    samples = SampleFolder.open(tmp_path)
    assert (len(samples), samples.attributes) == (6, [{"age": 60.0}] * 6)
    rows = list_samples(samples, build_prior(), ALONE)
    assert rows == [{"file": f"volume-0000{number}.nii.gz", "label": number, "age": 60.0} for number in (0, 1)]
    assert find_picture(tmp_path, str(rows[1]["file"])) == tmp_path / "volume-00001.png"
    assert find_picture(tmp_path, "sample-00000.png") == tmp_path / "sample-00000.png"
