"""The dataset of a run is evaluated where --data is not given."""

from pathlib import Path

import pytest
import yaml
from support import ALONE, save_vqvae

from vqdist.config.command_options import EvaluateOptions
from vqdist.evaluation.inputs import read_inputs
from vqdist.evaluation.run_data import report_changed_data
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


def test_changed_data_are_reported(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_config(save_vqvae(tmp_path / "run"), images)
    dataset = read_inputs(EvaluateOptions(run=run), ALONE).dataset
    capsys.readouterr()
    for fingerprint, changed in ((dataset.manifest.fingerprint, False), ("0" * 64, True), (None, False)):
        report_changed_data(dataset, ModelCard("vqvae", {}, 0, "", data=DataDescription(fingerprint)))
        assert ("has changed since the run was trained on it" in capsys.readouterr().err) is changed
