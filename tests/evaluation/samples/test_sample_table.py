"""The samples one by one, with the conditions and bits that a full forward gives."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.models import ALONE

from vqdist.evaluation.samples.sample_folder import SampleFolder
from vqdist.evaluation.samples.sample_table import list_samples
from vqdist.models.pixelcnn import PixelCNN

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
