"""Messages about slices whose results are less reliable."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support import save_prior, save_vqvae, write_codes, write_images
from support.volumes import save_oriented

from vqdist.config.attributes import Attribute
from vqdist.inference.conditions import TrainRow
from vqdist.inference.slice_source import SliceInfo, SliceSource, VolumeSizes, open_volume_slices
from vqdist.inference.slice_warnings import (
    report_conditions,
    report_healthy,
    report_limits,
    report_volume_numbers,
)
from vqdist.models.condition_spec import ConditionSpec
from vqdist.models.map_conditions import MapConditions

ROWS = [TrainRow({"label": None, "slice": number}, 1) for number in range(10, 18)]


def build_source(subjects: int) -> SliceSource:
    infos = tuple(SliceInfo(f"{number}", f"{number}", f"{number // 2}") for number in range(2 * subjects))
    return SliceSource(infos, lambda _: np.zeros((1, 4, 4), np.uint8))


def name_codes(prior: Path, codes: Path) -> Path:
    (prior / "config.yaml").write_text(f"data: {{path: {codes}}}\n")
    return prior


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `prior` whose configuration names its `codes`, and their `images`."""
    folder = tmp_path_factory.mktemp("warnings")
    codes = write_codes(folder / "codes", save_vqvae(folder / "run"), write_images(folder / "images"))
    name_codes(save_prior(folder / "prior", codes, condition="slice"), codes)
    return folder


def test_unknown_conditions_and_untrained_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    attributes = {"age": Attribute(kind="number", low=20, high=90), "sex": Attribute(kind="category", values=("F",))}
    spec = ConditionSpec(("slice", "age", "sex"), 0, 20, attributes, hides=True)
    unknown = torch.full((4,), torch.nan)
    found = MapConditions(None, torch.tensor([3, 10, 17, 19]), {"age": unknown, "sex": unknown})
    report_conditions(found, spec, ROWS)
    assert capsys.readouterr().err.splitlines() == [
        "age, sex: unknown for these slices; --condition NAME=VALUE gives them",
        "WARNING: 2 of 4 slices have numbers without a training sample: found 3, 19; expected 10 to 17",
    ]
    known = replace(found, slice=torch.tensor([10, 17, -1, 11]), attributes=dict.fromkeys(attributes, torch.ones(4)))
    report_conditions(known, spec, ROWS)
    report_conditions(replace(known, slice=torch.tensor([3])), spec, [])
    assert capsys.readouterr().err == ""


def test_a_volume_for_a_prior_of_pictures(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save_oriented(tmp_path / "scan.nii.gz", "RAS")
    volume = open_volume_slices(path, VolumeSizes(32, 4), channels=1)
    manifest = json.loads((folder / "codes" / "dataset.json").read_text())
    codes = tmp_path / "codes"
    codes.mkdir()
    prior = name_codes(tmp_path, codes)

    def report(source: SliceSource, layout: str | None) -> str:
        about = {"images_source": {"layout": layout}} if layout else {}
        (codes / "dataset.json").write_text(json.dumps(manifest | {"source": about}))
        capsys.readouterr()
        report_volume_numbers(source, prior)
        return capsys.readouterr().err

    assert report(volume, "oasis-png").startswith(
        f"WARNING: the slices of {path} are numbered from its own brain, those of the training data (oasis-png) in "
    )
    assert report(volume, "nifti") == report(volume, None) == report(build_source(1), "oasis-png") == ""
    report_volume_numbers(volume, tmp_path / "no-run")
    assert capsys.readouterr().err == ""


def test_healthy_slices_that_trained_the_prior(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, prior = folder / "images", folder / "prior"
    report_healthy(images, "train", prior)
    warning = f"WARNING: the slices of {images}:train trained the prior: "
    assert capsys.readouterr().err.startswith(warning)
    report_healthy(images, "validate", prior)
    report_healthy(folder / "codes", "train", prior)
    report_healthy(images, "train", folder / "run")
    assert capsys.readouterr().err == ""


def test_limits_from_few_people(capsys: pytest.CaptureFixture[str]) -> None:
    report_limits(build_source(20), 0, false_positive_rate=0.05)
    assert capsys.readouterr().err == ""
    few = "with so few people the share of false alarms is uncertain; no p-value is below"
    report_limits(build_source(9), 0, false_positive_rate=0.06)
    assert capsys.readouterr().err == f"limits from 18 slices of 9 subjects: {few} 0.053\n"
    report_limits(build_source(9), 81, false_positive_rate=0.05)
    assert capsys.readouterr().err == f"limits from 18 slices of 9 subjects and 81 training slices: {few} 0.01\n"
    report_limits(build_source(9), 0, false_positive_rate=0.05)
    assert capsys.readouterr().err == (
        "WARNING: no slice will be flagged: with 18 healthy slices no p-value is below 0.053; "
        "--false-positive-rate 0.05 needs 19 healthy slices\n"
    )
