"""To add a task, a person writes one class and one config: it trains on two ranks, stops and resumes to the bit."""

import json
from pathlib import Path

import pytest
from mean_task import MeanTask, run
from support import QUIET, digests, read_metrics, start

import vqdist.training.tasks.task as task_module
from vqdist.runs.checkpoint import list_checkpoints

pytestmark = pytest.mark.ranks


def run_on_ranks(words: list[object], ranks: int) -> int:
    with start(run, [*QUIET, *map(str, words)], ranks=ranks) as started:
        ended = started.wait()
    assert len(set(ended.codes)) == 1, ended.describe()
    return ended.codes[0]


def test_a_third_task_trains_on_two_ranks_with_a_resume(image_set: Path, tmp_path: Path) -> None:
    words: list[object] = ["--data.path", image_set, "--run.dir", tmp_path, "--data.global_batch_size", 8]
    words += ["--data.num_workers", 0, "--train.max_steps", 20, "--train.log_every", 4, "--train.eval_every", 10]
    words += ["--checkpoint.every_steps", 5, "--train.preview_every", 10, "--model.width", 6, "--run.timeout_s", 60]
    assert run_on_ranks([*words, "--run.name", "whole"], 2) == 0
    assert run_on_ranks([*words, "--run.name", "stopped", "--train.stop_at_step", 7], 2) == 75
    assert run_on_ranks([*words, "--run.name", "stopped"], 2) == 0
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert read_metrics(stopped) == read_metrics(whole)
    assert digests(list_checkpoints(stopped / "checkpoints")[-1]) == digests(
        list_checkpoints(whole / "checkpoints")[-1]
    )
    losses = [line["loss"] for line in read_metrics(whole) if line["split"] == "validate"]
    assert losses[-1] < 0.05
    card = json.loads((whole / "model" / "config.json").read_text())
    assert (card["kind"], card["model"]["width"]) == ("meanmlp", 6)
    assert len(list((whole / "previews").glob("*.png"))) == 2


def test_its_keys_are_checked_like_those_of_the_two_stages(
    image_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--data.path", str(image_set), "--run.dir", str(tmp_path), "--model.width", "0", "--model.hidden", "3"]
    assert run(words) == 2
    problems = capsys.readouterr().err
    assert "model.width: found 0; expected at least 1" in problems
    assert "model.hidden: found an unknown key (task mean)" in problems


def test_it_is_short() -> None:
    source = Path(__file__).with_name("mean_task.py").read_text()
    assert len(source.splitlines()) < 80
    assert "mean" not in Path(task_module.__file__).with_name("__init__.py").read_text()
    assert MeanTask.name == "mean"
