"""A run that is started again with other data than it was trained on."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support import tiny_flags, write_code_set, write_image_set, write_images

from vqdist import train
from vqdist.config.loading import load_config
from vqdist.config.schema import RunConfig
from vqdist.data.shards.manifest import load_manifest
from vqdist.foundation.command import run_command
from vqdist.foundation.errors import Problem
from vqdist.runs.training_data import changed_data_problems, describe_shape, finished_data_problems, name_data_source


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dataset `data`, a run `run` that was trained on it, and other datasets; tests copy it."""
    folder = tmp_path_factory.mktemp("trained")
    write_image_set(folder / "data")
    write_images(folder / "other")
    write_images(folder / "large", size=64, channels=3)
    words = [*tiny_flags(), "--tracking.mode", "disabled", "--run.device", "cpu", "--run.dir", str(folder)]
    words += ["--run.name", "run", "--train.max_steps", "2", "--data.path", str(folder / "data")]
    assert run_command(train.main, words) == 0
    return folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    """A copy of the trained folder, whose configuration names the data of the copy."""
    copy = shutil.copytree(trained, tmp_path / "copy")
    config = copy / "run" / "config.yaml"
    config.write_text(config.read_text().replace(str(trained), str(copy)))
    return copy


def configure(folder: Path, data: Path | None, **keys: object) -> RunConfig:
    flags = {"run.dir": folder, "run.name": "run", **keys} | ({} if data is None else {"data.path": data})
    config, problems = load_config(None, [(name, str(value)) for name, value in flags.items()])
    assert problems == []
    assert config is not None
    return config


def texts(problems: list[Problem]) -> list[str]:
    return list(map(str, problems))


def test_a_finished_run_takes_its_own_data_wherever_they_are_now(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = folder / "data"
    assert finished_data_problems(configure(folder, data)) == []
    monkeypatch.chdir(folder)
    assert finished_data_problems(configure(folder, Path("data"))) == []
    moved = data.rename(folder / "moved")
    assert finished_data_problems(configure(folder, data)) == [], "gone"
    assert finished_data_problems(configure(folder, moved)) == [], "the same contents"
    shutil.rmtree(folder / "run" / "checkpoints")
    assert finished_data_problems(configure(folder, moved)) == [], "the saved model names its data, too"
    shutil.rmtree(folder / "run" / "model")
    assert len(finished_data_problems(configure(folder, moved))) == 1, "nothing shows that they are the same"


def test_a_finished_run_refuses_other_data(folder: Path) -> None:
    run, data = folder / "run", folder / "data"
    for other in ("other", "large"):
        expected = f"data.path: {run} was trained on {data}; you gave {folder / other}: choose another --run.name"
        assert texts(finished_data_problems(configure(folder, folder / other))) == [expected]
    first, second = texts(finished_data_problems(configure(folder, folder / "nowhere")))
    assert first == f"data.path: {run} was trained on {data}; you gave {folder / 'nowhere'}: choose another --run.name"
    assert second.startswith(f"data.path: {folder / 'nowhere'}: found no such folder; expected a dataset")
    (message,) = texts(finished_data_problems(configure(folder, None)))
    assert message.endswith("; you gave synthetic slices (null): choose another --run.name")
    allowed = configure(folder, folder / "other", **{"data.allow_changed": "true"})
    assert finished_data_problems(allowed) == []


def test_contents_that_have_changed_in_place_are_other_data(folder: Path) -> None:
    data = folder / "data"
    shutil.rmtree(data)
    shutil.copytree(folder / "other", data)
    expected = (
        f"data.path: {folder / 'run'} was trained on {data}, whose contents have changed since: restore them, or choose"
    )
    assert texts(finished_data_problems(configure(folder, data))) == [f"{expected} another --run.name"]
    continued = configure(folder, data, **{"train.max_steps": 4})
    (message,) = texts(changed_data_problems(continued, load_manifest(data)))
    assert message.startswith(f"{expected} another --run.name, or continue with these data by --data.allow_changed")


@pytest.mark.parametrize(("other", "is_advised"), [("other", True), ("large", False)])
def test_data_of_another_size_are_not_recommended(folder: Path, other: str, is_advised: bool) -> None:
    config = configure(folder, folder / other, **{"train.max_steps": 4})
    (message,) = texts(changed_data_problems(config, load_manifest(folder / other)))
    assert ("--data.allow_changed true" in message) is is_advised
    assert "choose another --run.name" in message
    assert ("images of 32 x 32 x 1; you gave" in message) is not is_advised


def edit_state(folder: Path, edit: Callable[[dict[str, object]], object]) -> None:
    """Change the state of the newest checkpoint, as an earlier version would have written it."""
    from vqdist.runs.checkpoint import load_checkpoint, save_checkpoint

    checkpoints = folder / "run" / "checkpoints"
    tensors, state = load_checkpoint(checkpoints / "step-00000002")
    edit(state)
    save_checkpoint(checkpoints, 3, tensors=tensors, state=state, keep=2, check_owner=lambda: None)


def test_a_checkpoint_of_an_earlier_version_has_no_shape(folder: Path) -> None:
    edit_state(folder, lambda state: state.pop("data_shape"))
    config = configure(folder, folder / "other", **{"train.max_steps": 4})
    (message,) = texts(changed_data_problems(config, load_manifest(folder / "other")))
    assert message.endswith(f"you gave {folder / 'other'}: choose another --run.name")
    assert changed_data_problems(configure(folder, folder / "data"), load_manifest(folder / "data")) == []


def test_the_shape_of_codes(tmp_path: Path) -> None:
    assert describe_shape(load_manifest(write_code_set(tmp_path / "codes"))) == "maps of 8 x 8 codes out of 16"


def test_the_command_refuses_other_data_and_changes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = folder / "run"
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    words = ["--config", str(run / "config.yaml"), "--run.dir", str(folder)]
    assert run_command(train.main, [*words, "--data.path", str(folder / "other")]) == 2
    assert f"error: data.path: {run} was trained on {folder / 'data'}; you gave" in capsys.readouterr().err
    shutil.rmtree(folder / "data")
    assert run_command(train.main, words) == 0
    assert "finished before, nothing to do" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert json.loads((run / "status.json").read_text())["state"] == "finished"


def test_a_path_of_the_configuration_file_is_not_called_given(folder: Path) -> None:
    file, gone = folder / "own.yaml", folder / "gone"
    file.write_text(f"data: {{path: {gone}}}\n")
    flags = [("run.dir", str(folder)), ("run.name", "run")]
    config, _ = load_config(file, flags)
    assert config is not None
    assert texts(finished_data_problems(config)) == [
        f"{folder / 'run'} was trained on {folder / 'data'}; the configuration {file} gives {gone}: "
        f"add --data.path {folder / 'data'}, or choose another --run.name"
    ]
    missing = [Problem("data.path", "no such folder", "a dataset")]
    source = f"; the configuration {file} gives this path: pass --data.path"
    (problem,) = name_data_source(config, missing)
    assert problem.expected == f"a dataset{source} {folder / 'data'}, the data of the run"
    (problem,) = name_data_source(config.replace("run", name="new"), missing)
    assert problem.expected == f"a dataset{source} DIR for other data"
    given = load_config(file, [*flags, ("data.path", str(gone))])[0]
    own = load_config(folder / "run" / "config.yaml", flags)[0]
    for other in (given, own):
        assert other is not None
        assert name_data_source(other, missing) == missing
