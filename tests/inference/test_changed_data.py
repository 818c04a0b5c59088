"""Warnings of datasets that were split again after a model was trained on them."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from support import ALONE, save_prior, save_vqvae, write_codes, write_images
from support.datasets import FEW, write_image_set

from vqdist.config.command_options import EncodeOptions
from vqdist.inference.anomaly.training_slices import report_changed_slices
from vqdist.inference.changed_data import describe_doubt
from vqdist.inference.encoding import prepare_encoding


def name_data(run: Path, data: Path) -> Path:
    (run / "config.yaml").write_text(yaml.safe_dump({"data": {"path": str(data)}}))
    return run


@pytest.mark.parametrize("changed", [True, False])
def test_encode_warns_of_data_that_the_vqvae_was_not_trained_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changed: bool
) -> None:
    images = write_images(tmp_path / "images")
    run = name_data(save_vqvae(tmp_path / "run"), images)
    card = run / "model" / "config.json"
    if changed:
        card.write_text(json.dumps(json.loads(card.read_text()) | {"data_fingerprint": "0" * 64}))
    prepare_encoding(EncodeOptions(run=run, data=images, out=tmp_path / "codes"), ALONE)
    warning = f"WARNING: {images} has changed since {run} was trained on it: its validate and test splits may contain"
    assert (warning in capsys.readouterr().err) is changed


def test_score_warns_of_images_that_were_split_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = write_images(tmp_path / "images")
    codes = write_codes(tmp_path / "codes", save_vqvae(tmp_path / "vqvae"), images)
    prior = name_data(save_prior(tmp_path / "prior", codes), codes)
    capsys.readouterr()
    report_changed_slices(prior, images, "test")
    report_changed_slices(tmp_path / "none", images, "test")
    shutil.copytree(images, tmp_path / "other")
    shutil.rmtree(images)
    write_image_set(images, slices=replace(FEW, subjects={"train": range(4, 8), "validate": range(3), "test": [3]}))
    report_changed_slices(prior, tmp_path / "other", "test")
    assert capsys.readouterr().err == ""
    report_changed_slices(prior, images, "test")
    doubt = "its test split may contain training images"
    assert capsys.readouterr().err == f"WARNING: {images} has changed since {codes} was encoded from it: {doubt}\n"


def test_the_train_split_of_changed_data_may_hold_other_images() -> None:
    assert describe_doubt("train") == "its train split may contain images that were not in training"
