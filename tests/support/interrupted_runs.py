"""Runs that are killed or stopped and restarted, and checks of their results."""

import random
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import numpy as np
from support.commands import QUIET, start_train, tiny_flags, train
from support.processes import wait_until
from support.records import digests, read_metrics, read_records

from vqdist.data.order import Order
from vqdist.data.shards.manifest import load_manifest
from vqdist.data.shards.reader import ShardReader
from vqdist.runs.checkpoint import list_checkpoints, load_checkpoint
from vqdist.runs.run_dir import RunDir

# Flags of a run that ends only when it is stopped, and that takes checkpoints only when it stops.
ENDLESS = ("--train.max_steps", "100000", "--train.eval_every", "100000", "--checkpoint.every_steps", "100000")


def run_flags(data: Path, folder: Path, *more: object) -> list[str]:
    """Return the flags of a tiny run FOLDER/run that keeps a ledger."""
    fixed = (*QUIET, *tiny_flags(), "--data.path", data, "--run.dir", folder, "--run.name", "run")
    return [str(word) for word in (*fixed, "--data.ledger", "true", *more)]


def describe_run(run: Path) -> dict[str, Any]:
    """Return all results of a run that must not depend on interruptions."""
    files = RunDir(run)
    return {
        "model": digests(files.model),
        "checkpoint": digests(list_checkpoints(files.checkpoints)[-1]),
        "metrics": read_metrics(run),
        "ledger": digests(files.ledgers),
    }


def count_steps(run: Path) -> int:
    """Return the number of steps in the longest ledger of a run."""
    return max((path.read_bytes().count(b"\n") for path in RunDir(run).ledgers.glob("rank-*.jsonl")), default=0)


def wait_for_step(run: Path, step: int) -> None:
    """Wait until a run that keeps a ledger has done a step."""
    wait_until(lambda: count_steps(run) >= step)


def read_checkpoint_step(run: Path) -> int:
    """Return the step of the newest checkpoint, which must be undamaged."""
    return int(load_checkpoint(list_checkpoints(RunDir(run).checkpoints)[-1])[1]["progress"]["step"])


def train_with_kills(run: Path, words: list[str], *, steps: int, kills: int, ranks: int, rng: random.Random) -> None:
    """Train a run to its end, and kill it the given number of times, each time some steps later."""
    for number in range(kills):
        with start_train(*words, ranks=ranks) as started:
            target = (number + 1) * steps // (kills + 1)
            wait_until(lambda target=target: count_steps(run) >= target or not started.processes[0].is_alive())
            time.sleep(rng.uniform(0, 0.02))
            started.send(signal.SIGKILL)
            ended = started.wait()
        assert set(ended.codes) == {-signal.SIGKILL}, ended.describe()
    train(*words, ranks=ranks)


def train_with_faults(run: Path, words: list[str], steps: int, attempts: int) -> Counter[str]:
    """Interrupt a run in every attempt, on 1 to 3 ranks with 0 to 2 workers; return how the attempts ended."""
    rng, ends = random.Random(attempts), Counter[str]()
    for number in range(attempts):
        ranks, workers = (3, 1, 2)[number % 3], rng.choice((0, 1, 2))
        fault = ("all killed", "one killed", "stopped")[rng.randrange(3)]
        with start_train(*words, "--data.num_workers", workers, ranks=ranks) as started:
            target = (number + 1) * steps // (attempts + 2)
            wait_until(lambda target=target: count_steps(run) >= target or not started.processes[0].is_alive())
            time.sleep(rng.uniform(0, 0.05))
            if fault == "stopped":
                started.send(signal.SIGTERM, rng.randrange(ranks))
            elif fault == "one killed":
                started.send(signal.SIGKILL, rng.randrange(ranks))
            else:
                started.send(signal.SIGKILL)
            ended = started.wait()
        ends[fault] += 1
        expected = {"stopped": {75}, "one killed": {-9, 1}, "all killed": {-9}}[fault]
        assert set(ended.codes) <= expected, f"{fault}\n{ended.describe()}"
    return ends


def check_ledger(run: Path, data: Path, order: Literal["windowed", "full"], steps: int) -> None:
    """Check that the ledgers of all ranks together hold each step once, with the 8 samples of that step."""
    reader = ShardReader(data, load_manifest(data), "train")
    keys = [reader.key(index) for index in range(len(reader))]
    samples = Order(reader.shard_sizes, kind=order, window_shards=8, seed=0).samples(np.arange(8 * steps))
    found: dict[int, list[str]] = {step: [] for step in range(1, steps + 1)}
    for path in RunDir(run).ledgers.glob("rank-*.jsonl"):
        records = read_records(path)
        recorded = [record["step"] for record in records]
        assert recorded == sorted(set(recorded)), f"{path}: a step twice"
        for record in records:
            found[record["step"]] += record["keys"]
    for step, trained in found.items():
        assert sorted(trained) == sorted(keys[index] for index in samples[8 * (step - 1) : 8 * step]), f"step {step}"
    assert sum(map(len, found.values())) == 8 * steps
    for epoch in range(8 * steps // len(keys)):  # without the first and last step, which may belong to two epochs
        first, last = -(-epoch * len(keys) // 8), (epoch + 1) * len(keys) // 8
        inside = Counter(key for step in range(first + 1, last + 1) for key in found[step])
        assert max(inside.values()) == 1
