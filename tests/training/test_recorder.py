"""What a run's lines tell: restarts of the codebook since the line before, the prior beside its baseline."""

import math
from pathlib import Path

import pytest
import torch
from support import NUM_CODES, read_metrics, tiny_flags, train

from vqdist.runs.checkpoint import list_checkpoints, load_checkpoint

pytestmark = pytest.mark.ranks


def test_restarts_are_counted_and_survive_a_stop(image_set: Path, tmp_path: Path) -> None:
    words = [*tiny_flags(), "--train.log_every", 8, "--model.num_codes", 64, "--model.restart_every", 3]
    words += ["--model.restart_threshold", 0.2, "--data.path", image_set, "--run.dir", tmp_path]
    train(*words, "--run.name", "whole")
    # The restarts of steps 9 and 12 lie between the line of step 8 and the stop.
    train(*words, "--run.name", "stopped", "--train.stop_at_step", 13, check=False)
    checkpoint = list_checkpoints(tmp_path / "stopped" / "checkpoints")[-1]
    kept = load_checkpoint(checkpoint)[0]["usage"]["restarts"]
    train(*words, "--run.name", "stopped")
    lines = [line for line in read_metrics(tmp_path / "whole") if line["split"] == "train"]
    assert read_metrics(tmp_path / "stopped") == read_metrics(tmp_path / "whole")
    assert [line["step"] for line in lines] == [8, 16, 20]
    assert all(type(line["restarts"]) is int for line in lines)
    assert 0 < kept <= lines[1]["restarts"] < 3 * 64, "those since the line before, not of the whole run"
    assert kept.dtype == torch.int64


def test_a_prior_is_told_beside_its_baseline(code_set: Path, tmp_path: Path) -> None:
    train(*tiny_flags("pixelcnn"), "--data.path", code_set, "--run.dir", tmp_path, "--run.name", "prior")
    lines = read_metrics(tmp_path / "prior")
    validate = [line for line in lines if line["split"] == "validate"]
    assert [line["uniform_bits_per_code"] for line in validate] == [math.log2(NUM_CODES)] * 2
    assert validate[-1]["bits_per_code"] < validate[-1]["uniform_bits_per_code"]
    assert all("restarts" not in line for line in lines)


@pytest.mark.parametrize("blocked", [False, True])
def test_a_finished_run_draws_its_curves_or_says_why_not(image_set: Path, tmp_path: Path, blocked: bool) -> None:
    run = tmp_path / "run"
    run.mkdir()
    if blocked:
        (run / "figures").touch()
    words = [*tiny_flags(), "--data.path", image_set, "--run.dir", tmp_path, "--run.name", "run"]
    stopped = train(*words, "--train.stop_at_step", 10, check=False)
    assert stopped.code == 75
    assert not (run / "figures" / "losses.png").exists(), "a run that goes on has no time for it"
    ended = train(*words)
    assert ("run: no curves drawn: [Errno" in ended.logs[0]) == blocked
    assert (run / "figures" / "losses.png").exists() != blocked
