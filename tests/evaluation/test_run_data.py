"""The dataset of a run is evaluated where --data is not given."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from PIL import Image
from support import ALONE, save_prior, save_vqvae, write_codes, write_images
from support.datasets import FEW, write_image_set
from support.third_party_shards import encode_picture, write_tar

from vqdist.config.command_options import EvaluateOptions
from vqdist.data.open_dataset import open_dataset
from vqdist.evaluation.inputs import read_inputs
from vqdist.evaluation.run_data import is_of_pictures, report_run_data
from vqdist.foundation.errors import ConfigError
from vqdist.models.model_card import DataDescription, ModelCard


def write_config(run: Path, data: Path | str | None) -> Path:
    run.mkdir(exist_ok=True)
    path = None if data is None else str(data)
    (run / "config.yaml").write_text(yaml.safe_dump({"task": "vqvae", "data": {"path": path}}))
    return run


def test_the_configuration_of_the_run_names_the_data(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_config(save_vqvae(tmp_path / "run"), images)
    inputs = read_inputs(EvaluateOptions(run=run), ALONE)
    assert inputs.dataset.folder == images
    assert f"--data {images}, from the configuration of the run\n" in capsys.readouterr().err


def test_a_run_without_data_path_was_trained_on_the_demo_data(images: Path, tmp_path: Path) -> None:
    run = write_config(save_vqvae(tmp_path / "run"), None)
    (tmp_path / "demo-data").symlink_to(images)
    assert read_inputs(EvaluateOptions(run=run), ALONE).dataset.folder == tmp_path / "demo-data"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("nowhere/slices", "found nowhere/slices, which is not a folder seen from"),
        ("s3://bucket/slices", "found s3://bucket/slices; expected a dataset on this machine"),
    ],
)
def test_data_that_are_not_here_are_named(data: str, expected: str, tmp_path: Path) -> None:
    run = write_config(save_vqvae(tmp_path / "run"), data)
    with pytest.raises(ConfigError) as error:
        read_inputs(EvaluateOptions(run=run), ALONE)
    assert expected in str(error.value)
    assert "give its folder with --data" in str(error.value)


def test_a_saved_model_without_its_run_needs_data(vqvae: Path) -> None:
    (problem,) = EvaluateOptions(run=vqvae).find_conflicts()
    assert str(problem).startswith("--data and --pictures: found neither; expected one of them")


def test_a_dataset_in_place_of_a_run_is_named(images: Path, vqvae: Path) -> None:
    (problem,) = EvaluateOptions(run=images).find_conflicts()
    assert str(problem).startswith(f"--run {images}: found a dataset of images; expected the folder of a run")
    options = EvaluateOptions(run=images, data=images)
    with pytest.raises(ConfigError, match="found a dataset of images; expected a run directory"):
        read_inputs(options, ALONE)


def test_a_dataset_of_codes_in_place_of_a_run_has_a_vqvae_and_needs_data(codes: Path) -> None:
    (problem,) = EvaluateOptions(run=codes).find_conflicts()
    assert str(problem).startswith("--data and --pictures: found neither")


def test_a_run_that_failed_before_its_configuration_was_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "status.json").write_text('{"state": "failed", "step": 0, "error": "no memory"}')
    options = EvaluateOptions(run=tmp_path)
    assert not options.find_conflicts()
    with pytest.raises(ConfigError, match=r"its training failed at step 0 \(no memory\)"):
        read_inputs(options, ALONE)


def test_the_reconstructions_of_a_saved_model_have_a_folder(vqvae: Path) -> None:
    options = EvaluateOptions(run=vqvae, pictures=vqvae)
    assert not options.find_conflicts()
    assert options.figure_folder == Path("reconstructions")
    assert options.model_copy(update={"out": Path("a/b.json")}).figure_folder == Path("a/reconstructions")
    assert options.model_copy(update={"pictures": None}).figure_folder is None
    (problem,) = options.model_copy(update={"figures": None}).find_conflicts()
    assert str(problem).startswith("--figures: found null beside --pictures")


@pytest.mark.parametrize("given", [False, True])
def test_changed_data_are_reported(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], given: bool
) -> None:
    run = write_config(save_vqvae(tmp_path / "run"), images)
    options = EvaluateOptions(run=run, data=images if given else None)
    dataset = read_inputs(options, ALONE).dataset
    warning = (
        f"WARNING: {images} has changed since {run} was trained on it: its validate split may contain training images"
    )
    for fingerprint, changed in ((dataset.manifest.fingerprint, False), ("0" * 64, True), (None, False)):
        capsys.readouterr()
        report_run_data(dataset, ModelCard("vqvae", {}, 0, "", data=DataDescription(fingerprint)), options)
        assert (warning in capsys.readouterr().err.splitlines()) is changed


def test_data_of_another_place_need_no_warning(
    images: Path, vqvae: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = ModelCard("vqvae", {}, 0, "", data=DataDescription("0" * 64))
    run = write_config(save_vqvae(tmp_path / "run"), tmp_path / "other")
    for path in (run, vqvae):  # the other one is a saved model without its run
        report_run_data(open_dataset(images), card, EvaluateOptions(run=path, data=images))
    assert capsys.readouterr().err == ""


def test_other_codes_of_a_pixelcnn_are_noted(images: Path, vqvae: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its report compares with train, which may then be people that the prior has not seen."""
    dataset, options = open_dataset(images), EvaluateOptions(run=vqvae, data=images)
    note = f"{images} is not the dataset that {vqvae} was trained on: if its train split has other people"
    for fingerprint, is_noted in (("0" * 64, True), (dataset.manifest.fingerprint, False), (None, False)):
        report_run_data(dataset, ModelCard("pixelcnn", {}, 0, "", data=DataDescription(fingerprint)), options)
        assert (note in capsys.readouterr().err) is is_noted


def test_images_that_were_split_again_are_reported(
    vqvae: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = write_images(tmp_path / "images")
    codes = write_codes(tmp_path / "codes", vqvae, images)
    prior = save_prior(tmp_path / "prior", codes)
    for name in ("a.png", "b.png"):
        Image.new("L", (32, 32)).save(tmp_path / name)
    options = EvaluateOptions(run=prior, data=codes, samples=tmp_path, split="validate")
    read_inputs(options, ALONE)
    assert "WARNING" not in capsys.readouterr().err
    shutil.rmtree(images)
    write_image_set(images, slices=replace(FEW, subjects={"train": range(4, 8), "validate": range(3), "test": [3]}))
    read_inputs(options, ALONE)
    doubt = "its validate split may contain training images"
    assert f"WARNING: {images} has changed since {codes} was encoded from it: {doubt}\n" in capsys.readouterr().err
    images.rename(tmp_path / "moved")
    read_inputs(options.model_copy(update={"images": tmp_path / "moved"}), ALONE)
    found = f"WARNING: {tmp_path / 'moved'} differs from the images that {codes} was encoded from: {doubt}\n"
    assert found in capsys.readouterr().err


def test_only_runs_on_other_pictures_are_known_to_be_of_pictures(tmp_path: Path, images: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(images, copy)
    run = write_config(save_vqvae(tmp_path / "run"), copy)
    for layout, expected in (("imagefolder", True), ("nifti", False), (None, False)):
        manifest = json.loads((copy / "dataset.json").read_text())
        manifest["source"] = {"layout": layout} if layout else {}
        (copy / "dataset.json").write_text(json.dumps(manifest))
        assert is_of_pictures(EvaluateOptions(run=run)) is expected
    assert not is_of_pictures(EvaluateOptions(run=run / "model"))
    assert not is_of_pictures(EvaluateOptions(run=write_config(save_vqvae(tmp_path / "other"), "nowhere")))


@pytest.mark.parametrize("has_slices", [False, True])
def test_runs_on_third_party_shards_without_slice_numbers_are_of_pictures(tmp_path: Path, has_slices: bool) -> None:
    for name in ("train/a.tar", "validate/b.tar"):
        members = {f"{number}.png": encode_picture(number, "PNG") for number in range(3)}
        if has_slices:
            members |= {f"{number}.json": f'{{"slice": {number}}}'.encode() for number in range(3)}
        write_tar(tmp_path / "shards" / name, members)
    run = write_config(save_vqvae(tmp_path / "run"), tmp_path / "shards")
    assert is_of_pictures(EvaluateOptions(run=run)) is not has_slices
    run = write_config(run, tmp_path / "shards" / "*" / "*.tar")
    assert is_of_pictures(EvaluateOptions(run=run)) is not has_slices
