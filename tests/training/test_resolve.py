"""Resolving a configuration: every open key gets a value, and the first attempt's value is kept."""

import json
from pathlib import Path

import pytest
import torch

from vqdist.config.loading import load_config
from vqdist.config.schema import RunConfig, dump_yaml
from vqdist.distributed.process_group import Ranks
from vqdist.foundation.errors import ConfigError
from vqdist.training import resolve
from vqdist.training.resolve import agree_on_precision, describe_length_change, resolve_config


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


def start(run_dir: Path, *, finished: bool = False, **keys: object) -> None:
    """Write the files that a run of 30 steps leaves behind."""
    run = run_dir / "run"
    run.mkdir(exist_ok=True)
    (run / "config.yaml").write_text(dump_yaml(resolve_config(configure(run_dir, **keys), environ={})))
    (run / "status.json").write_text(json.dumps({"state": "finished" if finished else "stopped", "step": 30}))


def describe(run_dir: Path, **keys: object) -> list[str]:
    return describe_length_change(resolve_config(configure(run_dir, **keys), environ={}))


def test_steps_after_the_schedule_are_warned_of(tmp_path: Path) -> None:
    assert describe(tmp_path) == [], "a new run"
    for schedule, warned in (("cosine", True), ("linear", True), ("constant", False)):
        keys = {"optim.schedule": schedule, "optim.lr": 0.002}
        start(tmp_path, **keys)
        assert describe(tmp_path, **keys) == [], "the same number of steps"
        assert len(describe(tmp_path, **keys, **{"train.max_steps": 90})) == warned
    start(tmp_path, **{"optim.decay_steps": 90})
    assert describe(tmp_path, **{"train.max_steps": 90}) == [], "the schedule is as long"
    (longer,) = describe(tmp_path, **{"train.max_steps": 100})
    assert "ends at step 90, and cannot change; all later steps up to 100 train at 1e-05, 1 % of optim.lr." in longer
    assert longer.endswith(f"start a new run from these weights: --run.name NEW --checkpoint.resume {tmp_path / 'run'}")


def test_a_run_that_ends_before_its_schedule_is_warned_of(tmp_path: Path) -> None:
    start(tmp_path)
    (shorter,) = describe(tmp_path, **{"train.max_steps": 15})
    assert shorter == (
        f"WARNING: {tmp_path / 'run'}: train.max_steps 15 ends the run before its schedule of the learning rate, which "
        "ends at step 30 and cannot change: the last step trains at 0.000505, not at 1e-05. For a whole schedule of 15 "
        "steps, choose a new --run.name"
    )
    start(tmp_path, **{"optim.schedule": "constant"})
    assert describe(tmp_path, **{"optim.schedule": "constant", "train.max_steps": 15}) == []
    start(tmp_path, **{"train.max_steps": 15, "optim.decay_steps": 30})
    assert describe(tmp_path, **{"train.max_steps": 15}) == [], "said by an earlier attempt, or asked for"


def test_a_finished_run_that_continues_by_a_forgotten_flag_is_warned_of(tmp_path: Path) -> None:
    file = tmp_path / "long.yaml"
    file.write_text("train: {max_steps: 3300}\n")

    def describe_without_flag(config: Path | None) -> list[str]:
        loaded, _ = load_config(config, [("run.dir", str(tmp_path)), ("run.name", "run")])
        assert loaded is not None
        return describe_length_change(resolve_config(loaded, environ={}))

    start(tmp_path, finished=True)
    assert describe_without_flag(file)[0] == (
        f"WARNING: {tmp_path / 'run'} finished at step 30; train.max_steps is now 3,300, from the configuration "
        f"{file}: to leave the run as it is, stop now and pass --train.max_steps 30"
    )
    assert "train.max_steps is now 400, its default: to leave" in describe_without_flag(None)[0]
    asked = describe(tmp_path, **{"train.max_steps": 90})
    assert [text for text in asked if "to leave" in text] == [], "the flag asks for more steps"
    start(tmp_path)
    assert [text for text in describe_without_flag(file) if "to leave" in text] == [], "not finished"


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


def test_the_project_is_that_of_the_environment_where_no_key_is_given(tmp_path: Path) -> None:
    environ = {"WANDB_PROJECT": "theirs"}
    assert resolve_config(configure(tmp_path), environ=environ).tracking.project == "theirs"
    given = configure(tmp_path, **{"tracking.project": "ours"})
    assert resolve_config(given, environ=environ).tracking.project == "ours"


def test_the_name_of_a_model_on_the_hub_is_no_path(tmp_path: Path) -> None:
    config = resolve_config(configure(tmp_path, **{"checkpoint.resume": "hf://org/name@v1"}), environ={})
    assert config.checkpoint.resume == "hf://org/name@v1"
