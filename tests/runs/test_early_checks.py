"""Checks of a run without torch: a wrong configuration is reported at once, with what else is wrong."""

import sys
from pathlib import Path

import pytest

from vqdist import train
from vqdist.config.loading import load_config
from vqdist.foundation.command import run_command
from vqdist.foundation.errors import Problem
from vqdist.runs.early_checks import find_early_problems, needs_torch


@pytest.fixture(autouse=True)
def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make each import of torch, and of the modules that train imports with it, an error."""
    for name in ("torch", "vqdist.distributed.process_group", "vqdist.runs.checkpoint", "vqdist.training.resolve"):
        monkeypatch.setitem(sys.modules, name, None)
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert run_command(train.main, list(map(str, words))) == 2
    return capsys.readouterr().err


def test_a_misspelt_configuration_is_refused_before_torch_is_imported(
    capsys: pytest.CaptureFixture[str], code_set: Path
) -> None:
    message = refused(capsys, "--config", "pixelcnn_osis", "--data.path", code_set)
    assert message.startswith("error: --config: found 'pixelcnn_osis'"), "the codes are not compared with the defaults"
    assert "did you mean optim?" in refused(capsys, "--optm.lr", "0.1")


def test_what_else_is_wrong_is_in_the_same_message(
    capsys: pytest.CaptureFixture[str], image_set: Path, code_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "sometimes")
    (tmp_path / "file").touch()
    message = refused(capsys, "--optim.lr", "x", "--run.dir", tmp_path / "file", "--data.path", tmp_path / "nosuch")
    assert "error: 4 problems" in message
    for part in ("optim.lr: found 'x'", "run.dir: found", "nosuch: found no such folder", "WANDB_MODE: found"):
        assert part in message
    monkeypatch.delenv("WANDB_MODE")
    words = ("--optim.lr", "x", "--run.dir", tmp_path, "--data.path")
    assert "a dataset of codes" in refused(capsys, *words, code_set)
    assert "61 for 60 samples" in refused(capsys, *words, image_set, "--data.global_batch_size", 61)
    assert "file: found a file; expected" in refused(capsys, *words, tmp_path / "file")


def test_a_rank_without_samples_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config, _ = load_config(None, [("run.dir", str(tmp_path))])
    assert config is not None
    assert find_early_problems(config, []) == []
    monkeypatch.setenv("WORLD_SIZE", "17")
    assert [problem.where for problem in find_early_problems(config, [])] == ["data.global_batch_size"]
    assert find_early_problems(config, [Problem("task", "gan", "vqvae or pixelcnn")]) == []


@pytest.mark.parametrize(
    ("key", "value", "needed"),
    [
        ("run.device", "cuda", True),
        ("run.device", "cpu", False),
        ("train.precision", "fp16", True),
        ("train.precision", "auto", False),
        ("checkpoint.resume", "runs/other", True),
        ("checkpoint.resume", "never", False),
    ],
)
def test_devices_precisions_and_weights_need_torch(key: str, value: str, needed: bool) -> None:
    config, _ = load_config(None, [(key, value)])
    assert config is not None
    assert needs_torch(config) is needed
