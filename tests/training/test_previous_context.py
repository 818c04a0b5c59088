"""Training with the previous slice as context: stops, ranks and unsuitable datasets."""

from pathlib import Path

import pytest
from support import digests, read_metrics, tiny_flags, train

from vqdist.foundation.command import run_command
from vqdist.train import main


def list_flags(data: Path, tmp_path: Path, name: str, **more: object) -> list[str]:
    settings = {"model.condition": "slice", "model.context": "previous", "data.path": data, "run.dir": tmp_path}
    settings |= {"run.name": name, "tracking.mode": "disabled", "run.device": "cpu", "data.num_workers": 1}
    settings |= {key.replace("__", "."): value for key, value in more.items()}
    return [*tiny_flags("pixelcnn"), *(str(word) for key, value in settings.items() for word in (f"--{key}", value))]


@pytest.mark.ranks
def test_stops_and_ranks_change_nothing(volume_codes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(main, list_flags(volume_codes, tmp_path, "whole")) == 0
    assert "model.context previous: 15 of 20 maps of train have a previous one" in capsys.readouterr().err
    stopped = list_flags(volume_codes, tmp_path, "stopped")
    assert run_command(main, [*stopped, "--train.stop_at_step", "7"]) == 75
    assert run_command(main, stopped) == 0
    assert digests(tmp_path / "stopped/model") == digests(tmp_path / "whole/model")
    train(*list_flags(volume_codes, tmp_path, "two"), "--data.micro_batch_size", 3, ranks=2)
    lines, others = (read_metrics(tmp_path / name) for name in ("two", "whole"))
    assert len(lines) == len(others) >= 6
    for line, other in zip(lines, others, strict=True):
        assert line["loss"] == pytest.approx(other["loss"], rel=1e-4)


def test_the_noise_decides_the_result(volume_codes: Path, tmp_path: Path) -> None:
    losses = []
    for name, noise, dropout in (("clean", 0, 0), ("noise", 1, 0), ("none", 0, 1)):
        more = {"model__context_noise": noise, "model__context_dropout": dropout, "train__max_steps": 4}
        assert run_command(main, list_flags(volume_codes, tmp_path, name, **more)) == 0
        losses.append(read_metrics(tmp_path / name)[-1]["loss"])
    assert len(set(losses)) == 3


def test_unsuitable_data_is_refused(code_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(main, list_flags(code_set, tmp_path, "a")) == 2
    assert "train: found no slice with a previous one: " in capsys.readouterr().err
