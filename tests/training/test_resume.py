"""A run that was stopped, killed and taken up again is the run that never stopped.

The long version, `pytest -m long tests/training/test_resume.py`, kills every case 20 times and has 100 restarts in
one elastic history.
"""

import random
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import SLICES, SUBJECTS, digests, read_metrics, read_records, start_train, tiny_flags, train, wait_until

from vqdist.data.order import Order
from vqdist.data.shards import load_manifest
from vqdist.training.checkpoint import list_checkpoints, load_checkpoint

pytestmark = pytest.mark.ranks

STEPS = 40
# Checkpoints, train lines and evaluations fall on different steps.
RHYTHM = ["--train.max_steps", STEPS, "--train.log_every", 3, "--train.eval_every", 7, "--checkpoint.every_steps", 4]
CASES: dict[str, tuple[str, int, list[object]]] = {
    "vqvae": ("vqvae", 1, ["--optim.weight_ema", 0.9, "--model.restart_every", 3]),
    "vqvae by gradient, full order": ("vqvae", 2, ["--model.codebook", "grad", "--data.order", "full"]),
    "vqvae on 3 ranks": ("vqvae", 3, ["--data.micro_batch_size", 2, "--model.restart_every", 3]),
    "pixelcnn": ("pixelcnn", 1, ["--model.dropout", 0.2, "--optim.weight_ema", 0.9, "--data.order", "full"]),
    "pixelcnn on 2 ranks": ("pixelcnn", 2, ["--model.dropout", 0.2, "--data.num_workers", 1]),
}


def describe_run(run: Path) -> dict[str, Any]:
    """Return all of a run that must not depend on how often it was stopped."""
    return {
        "model": digests(run / "model"),
        "checkpoint": digests(list_checkpoints(run / "checkpoints")[-1]),
        "metrics": read_metrics(run),
        "ledger": digests(run / "ledger"),
    }


def count_lines(run: Path) -> int:
    files = list(run.glob("ledger/rank-0.jsonl"))
    return files[0].read_bytes().count(b"\n") if files else 0


def train_with_kills(run: Path, words: list[str], kills: int, ranks: int, rng: random.Random) -> None:
    """Start a run until it is over, and kill it as often as asked, each time some steps further."""
    for number in range(kills):
        with start_train(*words, ranks=ranks) as started:
            target = (number + 1) * STEPS // (kills + 1)
            wait_until(lambda target=target: count_lines(run) >= target or not started.processes[0].is_alive())
            time.sleep(rng.uniform(0, 0.02))
            started.send(signal.SIGKILL)
            ended = started.wait()
        assert set(ended.codes) == {-signal.SIGKILL}, ended.describe()
    train(*words, ranks=ranks)


def check_case(name: str, data: Path, tmp_path: Path, kills: int) -> None:
    task, ranks, more = CASES[name]
    flags = [*tiny_flags(task), *RHYTHM, *more, "--data.path", data, "--run.dir", tmp_path, "--data.ledger", "true"]
    words = [str(flag) for flag in flags]
    train(*words, "--run.name", "whole", ranks=ranks)
    whole = describe_run(tmp_path / "whole")
    for stop in (11, 14, 28):
        stopped = train(*words, "--run.name", "stopped", "--train.stop_at_step", stop, ranks=ranks, check=False)
        assert stopped.code == 75, stopped.describe()
    train(*words, "--run.name", "stopped", ranks=ranks)
    assert describe_run(tmp_path / "stopped") == whole
    train_with_kills(tmp_path / "killed", [*words, "--run.name", "killed"], kills, ranks, random.Random(name))
    assert describe_run(tmp_path / "killed") == whole
    before = digests(tmp_path / "killed")
    again = train(*words, "--run.name", "killed", ranks=ranks)
    assert "finished before" in again.logs[0]
    assert digests(tmp_path / "killed") == before


@pytest.mark.parametrize("name", CASES)
def test_stops_and_kills_leave_no_trace(name: str, image_set: Path, code_set: Path, tmp_path: Path) -> None:
    check_case(name, {"vqvae": image_set, "pixelcnn": code_set}[CASES[name][0]], tmp_path, kills=3)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", CASES)
def test_twenty_kills_leave_no_trace(name: str, image_set: Path, code_set: Path, tmp_path: Path) -> None:
    check_case(name, {"vqvae": image_set, "pixelcnn": code_set}[CASES[name][0]], tmp_path, kills=20)


def test_a_checkpoint_damaged_between_two_starts_costs_nothing_but_its_steps(image_set: Path, tmp_path: Path) -> None:
    words = [*tiny_flags(), *RHYTHM, "--data.path", image_set, "--run.dir", tmp_path, "--data.ledger", "true"]
    train(*words, "--run.name", "whole")
    train(*words, "--run.name", "damaged", "--train.stop_at_step", 22, check=False)
    newest = list_checkpoints(tmp_path / "damaged" / "checkpoints")[-1]
    data = bytearray((newest / "optimizer.safetensors").read_bytes())
    data[len(data) // 2] ^= 4
    (newest / "optimizer.safetensors").write_bytes(data)
    ended = train(*words, "--run.name", "damaged")
    assert "checkpoint passed over: " in ended.logs[0]
    assert "step-00000022/optimizer.safetensors: found sha256" in ended.logs[0]
    assert (newest.parent / "damaged-step-00000022-0").is_dir()
    assert describe_run(tmp_path / "damaged") == describe_run(tmp_path / "whole")


def test_a_run_from_given_weights_goes_on_when_it_is_started_again(image_set: Path, tmp_path: Path) -> None:
    words = [*tiny_flags(), *RHYTHM, "--data.path", image_set, "--run.dir", tmp_path, "--data.ledger", "true"]
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


def check_ledger(run: Path, data: Path, order: str, steps: int) -> None:
    """Check that the ranks' ledgers together hold each step once, with the samples that the order names."""
    manifest = load_manifest(data)
    sizes = np.array([shard.samples for shard in manifest.splits["train"].shards])
    keys = [f"s{subject:02d}-{number:02d}" for subject in SUBJECTS["train"] for number in SLICES]
    samples = Order(sizes, kind=order, window_shards=8, seed=0).samples(np.arange(8 * steps))
    found: dict[int, list[str]] = {step: [] for step in range(1, steps + 1)}
    for path in (run / "ledger").glob("rank-*.jsonl"):
        told = [line["step"] for line in read_records(path)]
        assert told == sorted(set(told)), f"{path}: a step twice"
        for line in read_records(path):
            found[line["step"]] += line["keys"]
    for step, told in found.items():
        assert sorted(told) == sorted(keys[index] for index in samples[8 * (step - 1) : 8 * step]), f"step {step}"
    stream = [key for step in range(1, steps + 1) for key in sorted(found[step])]
    assert len(stream) == 8 * steps
    for epoch in range(8 * steps // len(keys)):  # whole epochs, up to the steps that two of them share
        first, last = -(-epoch * len(keys) // 8), (epoch + 1) * len(keys) // 8
        inside = Counter(key for step in range(first + 1, last + 1) for key in found[step])
        assert max(inside.values()) == 1


def live_through(run: Path, words: list[str], steps: int, restarts: int) -> Counter[str]:
    """Kill and restart a run on 1, 2 and 3 ranks and 0 to 2 workers; return how its starts ended."""
    rng, ends = random.Random(restarts), Counter[str]()
    for number in range(restarts):
        ranks, workers = (3, 1, 2)[number % 3], rng.choice((0, 1, 2))
        fault = ("all killed", "one killed", "stopped")[rng.randrange(3)]
        with start_train(*words, "--data.num_workers", workers, ranks=ranks) as started:
            target = (number + 1) * steps // (restarts + 2)
            wait_until(lambda target=target: longest(run) >= target or not started.processes[0].is_alive())
            time.sleep(rng.uniform(0, 0.05))
            if fault == "stopped":
                started.send(signal.SIGTERM, rng.randrange(ranks))
            elif fault == "one killed":
                started.send(signal.SIGKILL, rng.randrange(ranks))
            else:
                started.send(signal.SIGKILL)
            ended = started.wait()
        ends[fault] += 1
        wanted = {"stopped": {75}, "one killed": {-9, 1}, "all killed": {-9}}[fault]
        assert set(ended.codes) <= wanted, f"{fault}\n{ended.describe()}"
    return ends


def longest(run: Path) -> int:
    return max([path.read_bytes().count(b"\n") for path in run.glob("ledger/rank-*.jsonl")] or [0])


def check_history(data: Path, tmp_path: Path, order: str, steps: int, restarts: int) -> None:
    flags = [*tiny_flags(), "--data.path", data, "--run.dir", tmp_path, "--data.ledger", "true", "--data.order", order]
    words = [str(flag) for flag in [*flags, "--train.max_steps", steps, "--train.eval_every", 100, "--optim.lr", 1e-4]]
    train(*words, "--run.name", "whole")
    run = tmp_path / "elastic"
    ends = live_through(run, [*words, "--run.name", run.name], steps, restarts)
    assert sum(ends.values()) == restarts
    assert min(ends.values()) > 0
    train(*words, "--run.name", run.name, ranks=2)
    check_ledger(run, data, order, steps)
    lines, whole = read_metrics(run), read_metrics(tmp_path / "whole")
    assert [(line["step"], line["split"]) for line in lines] == [(line["step"], line["split"]) for line in whole]
    for line, like in zip(lines, whole, strict=True):
        assert line["loss"] == pytest.approx(like["loss"], rel=1e-3)
    assert load_checkpoint(list_checkpoints(run / "checkpoints")[-1])[1]["progress"]["step"] == steps


@pytest.mark.parametrize("order", ["windowed", "full"])
def test_each_sample_once_an_epoch_whatever_happens(order: str, image_set: Path, tmp_path: Path) -> None:
    check_history(image_set, tmp_path, order, steps=60, restarts=12)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_each_sample_once_an_epoch_over_100_restarts(image_set: Path, tmp_path: Path) -> None:
    check_history(image_set, tmp_path, "windowed", steps=600, restarts=100)
