"""launch/starter.sh on few synthetic slices: from a folder with licences to a pair that load_model finds."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from vqdist import load_model
from vqdist.data.shards.manifest import load_manifest
from vqdist.data.sources.phantom import phantom_slice
from vqdist.models import hub
from vqdist.models.io import fingerprint, read_model_files

pytestmark = [pytest.mark.long, pytest.mark.timeout(1500)]  # eleven processes
ROOT = Path(__file__).parents[1]
# case -> split of the source, subject, licence
CASES = {
    "case_001": ("train", "OAS1_0001", "CC BY-NC 3.0"),
    "case_501": ("train", "SynthSeg label map 01", "Apache-2.0"),
    "case_551": ("train", "SynthSeg label map 01", "Apache-2.0"),
    "case_503": ("train", "SynthSeg label map 03", "Apache-2.0"),
    "case_513": ("train", "SynthSeg label map 13", "Apache-2.0"),
    "case_517": ("train", "SynthSeg label map 17", "Apache-2.0"),
    "case_801": ("train", "Colin27", "MNI permissive"),
    "case_040": ("test", "OAS1_0040", "CC BY-NC 3.0"),
}


def write_source(folder: Path) -> Path:
    """Write six slices of each case in the layout of the OASIS slices, with cases.csv."""
    folder.mkdir()
    with (folder / "cases.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["case", "split", "subject", "licence"])
        rows.writerows([case, split, subject, licence] for case, (split, subject, licence) in CASES.items())
    for number, (case, (split, *_)) in enumerate(CASES.items()):
        place = folder / "keras_png_slices_data" / f"keras_png_slices_{split}"
        place.mkdir(parents=True, exist_ok=True)
        for index in range(6):
            pixels = phantom_slice(number, 5 * index, image_size=128)
            Image.fromarray(pixels).save(place / f"{case}_slice_{index}.nii.png")
    return folder


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pair of a run of two steps each."""
    folder = tmp_path_factory.mktemp("starter")
    (folder / "environment.sh").touch()
    checkout = folder / "checkout"
    shutil.copytree(ROOT / "launch", checkout / "launch")
    # The package is not installed here, and the tests run in its environment.
    (checkout / "launch" / "environment.sh").write_text(f'set -euo pipefail; cd "{checkout}"\n')
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    settings = {"PATH": path, "PYTHONPATH": str(ROOT), "STEPS": "2", "WANDB_MODE": "disabled"}
    command = ["bash", checkout / "launch" / "starter.sh", write_source(folder / "data"), folder / "out"]
    done = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, check=False, timeout=1400)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "out" / "pair"


def test_only_open_cases_are_used_and_no_subject_is_in_two_splits(pair: Path) -> None:
    source = pair.parent / "open" / "keras_png_slices_data"
    found = {path.name.partition("_slice")[0]: path.parent.name.split("_")[-1] for path in source.glob("*/*.png")}
    # Subject and variant: two of the first label map, and one each of the others.
    assert found == {
        "case_010": "train", "case_011": "train", "case_020": "train", "case_030": "test", "case_040": "validate",
        "case_050": "train",
    }  # fmt: skip
    report = json.loads((pair.parent / "vqvae-report.json").read_text())
    assert (report["samples"], report["subjects"]) == (6, 1)
    manifest = load_manifest(pair.parent / "images")
    assert {name: split.samples for name, split in manifest.splits.items()} == {"train": 24, "validate": 6, "test": 6}


def test_the_pair_is_in_half_precision_and_belongs_together(pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    half = read_model_files(pair)
    assert len(half.weights) < 0.55 * len(read_model_files(pair.parent / "prior").weights)
    assert load_manifest(pair.parent / "codes").vqvae_fingerprint == fingerprint(pair / "vqvae")
    assert sum(path.stat().st_size for path in pair.rglob("*.safetensors")) < 6e6
    monkeypatch.setattr(hub, "STARTER_FOLDER", pair)
    assert load_model("starter").condition == "slice"
    assert load_model("starter/vqvae").num_codes == 256


def test_the_card_has_credits_figures_copies_and_membership(pair: Path) -> None:
    card = (pair / "README.md").read_text()
    assert "license: apache-2.0" in card
    assert "provided that the above copyright notice appear in all copies" in card
    assert "Billot et al." in card
    for text in ("`ssim`", "`bits_per_code`", "Near copies of training slices:", "Membership AUC on `test`:"):
        assert text in card
