"""Resolving a configuration: every open key gets a value, and the first attempt's value is kept."""

from pathlib import Path

import pytest
import torch

from vqdist.config.loading import load_config
from vqdist.config.schema import RunConfig, dump_yaml
from vqdist.distributed.process_group import Ranks
from vqdist.foundation.errors import ConfigError
from vqdist.training import resolve
from vqdist.training.resolve import agree_on_precision, describe_extension, resolve_config


def configure(run_dir: Path, **keys: object) -> RunConfig:
    flags = {"run.dir": run_dir, "run.name": "run", "train.max_steps": 30} | keys
    config, problems = load_config(None, [(name, str(value)) for name, value in flags.items()])
    assert problems == []
    assert config is not None
    return config


def test_open_keys_get_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolve, "choose_precision", lambda device: "bf16")
    config = resolve_config(configure(tmp_path, **{"train.precision": "auto"}), environ={})
    assert (config.optim.decay_steps, config.train.precision, config.tracking.mode) == (30, "bf16", "auto")
    given = resolve_config(configure(tmp_path, **{"optim.decay_steps": 7, "train.precision": "fp32"}), environ={})
    assert (given.optim.decay_steps, given.train.precision) == (7, "fp32")


def test_the_values_of_the_first_attempt_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolve, "choose_precision", lambda device: "bf16")
    first = resolve_config(configure(tmp_path, **{"train.precision": "auto"}), environ={})
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(dump_yaml(first))
    monkeypatch.setattr(resolve, "choose_precision", lambda device: "fp32")
    longer = configure(tmp_path, **{"train.precision": "auto", "train.max_steps": 90})
    again = resolve_config(longer, environ={})
    assert (again.optim.decay_steps, again.train.precision, again.train.max_steps) == (30, "bf16", 90)
    new = resolve_config(longer.replace("checkpoint", resume="never"), environ={})
    assert (new.optim.decay_steps, new.train.precision) == (90, "fp32")


def test_steps_after_the_schedule_are_warned_of(tmp_path: Path) -> None:
    def describe(**keys: object) -> str | None:
        return describe_extension(resolve_config(configure(tmp_path, **keys), environ={}))

    assert describe() is None, "a new run"
    (tmp_path / "run").mkdir()
    for schedule, warned in (("cosine", True), ("linear", True), ("constant", False)):
        first = resolve_config(configure(tmp_path, **{"optim.schedule": schedule, "optim.lr": 0.002}), environ={})
        (tmp_path / "run" / "config.yaml").write_text(dump_yaml(first))
        keys = {"optim.schedule": schedule, "optim.lr": 0.002}
        assert describe(**keys) is None, "the same number of steps"
        longer = describe(**keys, **{"train.max_steps": 90})
        assert (longer is not None) is warned
    keys = {"optim.decay_steps": 90}
    (tmp_path / "run" / "config.yaml").write_text(dump_yaml(resolve_config(configure(tmp_path, **keys), environ={})))
    assert describe(**{"train.max_steps": 90}) is None, "the schedule is as long"
    longer = describe(**{"train.max_steps": 100})
    assert longer is not None
    assert "ends at step 90, and cannot change; all later steps up to 100 train at 1e-05, 1 % of optim.lr." in longer
    assert longer.endswith(f"start a new run from these weights: --run.name NEW --checkpoint.resume {tmp_path / 'run'}")


def test_a_checkpoint_to_start_from_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = resolve_config(configure(tmp_path, **{"checkpoint.resume": "a/b"}), environ={})
    assert config.checkpoint.resume == str(tmp_path / "a" / "b")


def test_the_tracking_flag_overrides_the_environment(tmp_path: Path) -> None:
    config, environ = configure(tmp_path), {"WANDB_MODE": "disabled"}
    assert resolve_config(config, environ=environ).tracking.mode == "disabled"
    assert resolve_config(config, "offline", environ=environ).tracking.mode == "offline"
    with pytest.raises(ConfigError, match="WANDB_MODE"):
        resolve_config(config, environ={"WANDB_MODE": "sometimes"})


def test_rank_0_decides_the_precision(tmp_path: Path) -> None:
    class Second(Ranks):
        def broadcast_object(self, value: object) -> object:
            return "bf16"

    ranks = Second(1, 2, 1, torch.device("cpu"))
    assert agree_on_precision(configure(tmp_path), ranks).train.precision == "bf16"
