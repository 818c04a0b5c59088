"""Runs that are killed and started again, and what must be true of what they leave."""

import random
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import numpy as np
from support import digests, read_metrics, read_records, start_train, train, wait_until

from vqdist.data.order import Order
from vqdist.data.shards.manifest import load_manifest
from vqdist.data.shards.reader import ShardReader
from vqdist.runs.checkpoint import list_checkpoints


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


def train_with_kills(run: Path, words: list[str], *, steps: int, kills: int, ranks: int, rng: random.Random) -> None:
    """Start a run until it is over, and kill it as often as asked, each time some steps further."""
    for number in range(kills):
        with start_train(*words, ranks=ranks) as started:
            target = (number + 1) * steps // (kills + 1)
            wait_until(lambda target=target: count_lines(run) >= target or not started.processes[0].is_alive())
            time.sleep(rng.uniform(0, 0.02))
            started.send(signal.SIGKILL)
            ended = started.wait()
        assert set(ended.codes) == {-signal.SIGKILL}, ended.describe()
    train(*words, ranks=ranks)


def check_ledger(run: Path, data: Path, order: Literal["windowed", "full"], steps: int) -> None:
    """Check that the ranks' ledgers together hold each step once, with the 8 samples that the order names."""
    reader = ShardReader(data, load_manifest(data), "train")
    keys = [reader.key(index) for index in range(len(reader))]
    samples = Order(reader.shard_sizes, kind=order, window_shards=8, seed=0).samples(np.arange(8 * steps))
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
