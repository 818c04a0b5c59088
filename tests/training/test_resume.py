"""A run that was stopped, killed and resumed has the results of a run that was not.

The long version, `pytest -m long tests/training/test_resume.py`, kills every case 20 times, and interrupts one run
100 times on a changing number of ranks.
"""

import random
from pathlib import Path
from typing import Literal

import pytest
from support import digests, read_metrics, tiny_flags, train
from support.interrupted_runs import check_ledger, describe_run, train_with_faults, train_with_kills

from vqdist.runs.checkpoint import list_checkpoints, load_checkpoint

pytestmark = pytest.mark.ranks

STEPS = 40
# Checkpoints, train lines and evaluations are at different steps, except that step 28 has a checkpoint and evaluation.
INTERVALS = ["--train.max_steps", STEPS, "--train.log_every", 3, "--train.eval_every", 7, "--checkpoint.every_steps", 4]
CASES: dict[str, tuple[str, int, list[object]]] = {
    "vqvae": ("vqvae", 1, ["--optim.weight_ema", 0.9, "--model.restart_every", 3, "--data.crop", 16]),
    "vqvae by gradient, bf16, full order": (
        "vqvae",
        2,
        ["--model.codebook", "grad", "--data.order", "full", "--train.precision", "bf16"],
    ),
    "vqvae on 3 ranks": (
        "vqvae",
        3,
        ["--data.micro_batch_size", 2, "--model.restart_every", 3, "--data.mirror", "rows"],
    ),
    "pixelcnn": ("pixelcnn", 1, ["--model.dropout", 0.2, "--optim.weight_ema", 0.9, "--data.order", "full"]),
    "pixelcnn on 2 ranks": (
        "pixelcnn",
        2,
        ["--model.dropout", 0.2, "--data.num_workers", 1, "--optim.name", "muon", "--model.symmetry", "rows"],
    ),
}


def check_case(name: str, data: Path, tmp_path: Path, kills: int) -> None:
    task, ranks, more = CASES[name]
    flags = [*tiny_flags(task), *INTERVALS, *more, "--data.path", data, "--run.dir", tmp_path, "--data.ledger", "true"]
    words = [str(flag) for flag in flags]
    train(*words, "--run.name", "whole", ranks=ranks)
    whole = describe_run(tmp_path / "whole")
    for stop in (14, 28):
        stopped = train(*words, "--run.name", "stopped", "--train.stop_at_step", stop, ranks=ranks, check=False)
        assert stopped.code == 75, stopped.describe()
    train(*words, "--run.name", "stopped", ranks=ranks)
    assert describe_run(tmp_path / "stopped") == whole
    history = {"steps": STEPS, "kills": kills, "ranks": ranks, "rng": random.Random(name)}
    train_with_kills(tmp_path / "killed", [*words, "--run.name", "killed"], **history)
    assert describe_run(tmp_path / "killed") == whole


@pytest.mark.parametrize("name", CASES)
def test_stops_and_kills_change_nothing(name: str, image_set: Path, code_set: Path, tmp_path: Path) -> None:
    check_case(name, {"vqvae": image_set, "pixelcnn": code_set}[CASES[name][0]], tmp_path, kills=2)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", CASES)
def test_twenty_kills_change_nothing(name: str, image_set: Path, code_set: Path, tmp_path: Path) -> None:
    check_case(name, {"vqvae": image_set, "pixelcnn": code_set}[CASES[name][0]], tmp_path, kills=20)


def test_a_damaged_checkpoint_costs_only_its_steps_and_a_finished_run_is_left_alone(
    image_set: Path, tmp_path: Path
) -> None:
    words = [*tiny_flags(), *INTERVALS, "--data.path", image_set, "--run.dir", tmp_path, "--data.ledger", "true"]
    train(*words, "--run.name", "whole")
    train(*words, "--run.name", "damaged", "--train.stop_at_step", 22, check=False)
    newest = list_checkpoints(tmp_path / "damaged" / "checkpoints")[-1]
    data = bytearray((newest / "optimizer.safetensors").read_bytes())
    data[len(data) // 2] ^= 4
    (newest / "optimizer.safetensors").write_bytes(data)
    ended = train(*words, "--run.name", "damaged")
    assert "skipped damaged checkpoint: " in ended.logs[0]
    assert "step-00000022/optimizer.safetensors: found sha256" in ended.logs[0]
    assert (newest.parent / "damaged-step-00000022-0").is_dir()
    assert describe_run(tmp_path / "damaged") == describe_run(tmp_path / "whole")
    before = digests(tmp_path / "damaged")
    assert "finished" in train(*words, "--run.name", "damaged").logs[0]
    assert digests(tmp_path / "damaged") == before


def test_a_run_from_given_weights_resumes_with_the_same_flags(image_set: Path, tmp_path: Path) -> None:
    words = [*tiny_flags(), *INTERVALS, "--data.path", image_set, "--run.dir", tmp_path, "--data.ledger", "true"]
    train(*words, "--run.name", "first", "--train.max_steps", 8)
    start = ("--checkpoint.resume", tmp_path / "first")
    train(*words, "--run.name", "whole", *start)
    assert train(*words, "--run.name", "stopped", *start, "--train.stop_at_step", 9, check=False).code == 75
    train(*words, "--run.name", "stopped", *start)
    assert describe_run(tmp_path / "stopped") == describe_run(tmp_path / "whole")
    for other in ("never", tmp_path / "whole"):
        refused = train(*words, "--run.name", "stopped", "--checkpoint.resume", other, check=False)
        assert refused.code == 2
        assert "checkpoint.resume: found" in refused.logs[0]


def check_history(data: Path, tmp_path: Path, order: Literal["windowed", "full"], steps: int, attempts: int) -> None:
    flags = [*tiny_flags(), "--data.path", data, "--run.dir", tmp_path, "--data.ledger", "true", "--data.order", order]
    # The other ranks wait this long for a rank that was killed before it joined.
    flags += ["--run.timeout_s", 25, "--train.max_steps", steps, "--train.eval_every", 100, "--optim.lr", 1e-4]
    words = [str(flag) for flag in flags]
    train(*words, "--run.name", "whole")
    run = tmp_path / "elastic"
    ends = train_with_faults(run, [*words, "--run.name", run.name], steps, attempts)
    assert sum(ends.values()) == attempts
    assert min(ends.values()) > 0
    train(*words, "--run.name", run.name, ranks=2)
    check_ledger(run, data, order, steps)
    lines, whole = read_metrics(run), read_metrics(tmp_path / "whole")
    assert [(line["step"], line["split"]) for line in lines] == [(line["step"], line["split"]) for line in whole]
    for line, like in zip(lines, whole, strict=True):
        assert line["loss"] == pytest.approx(like["loss"], rel=1e-3)
    assert load_checkpoint(list_checkpoints(run / "checkpoints")[-1])[1]["progress"]["step"] == steps


@pytest.mark.parametrize("order", ["windowed", pytest.param("full", marks=pytest.mark.long)])
def test_each_sample_once_per_epoch_despite_faults(
    order: Literal["windowed", "full"], image_set: Path, tmp_path: Path
) -> None:
    check_history(image_set, tmp_path, order, steps=60, attempts=12)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_each_sample_once_per_epoch_over_100_attempts(image_set: Path, tmp_path: Path) -> None:
    check_history(image_set, tmp_path, "windowed", steps=600, attempts=100)
