"""Loader workers: reuse of slots, errors with their type, and dead or hanging workers."""

import os
import signal
import time
from collections.abc import Iterator
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest

from vqdist.data.loading.batch import Batch
from vqdist.data.loading.micro_batch_loader import MicroBatchLoader
from vqdist.data.loading.pipeline import SampleDecoder
from vqdist.data.loading.plan import SplitPlan
from vqdist.data.loading.workers import Slots, load_batches
from vqdist.data.shards.manifest import load_manifest
from vqdist.data.shards.reader import ShardReader
from vqdist.foundation.errors import DamagedDataError, StalledError


def load_train(
    data: Path, *, num_workers: int, timeout_s: float = 60, reader: type[ShardReader] = ShardReader
) -> Iterator[Batch]:
    manifest = load_manifest(data)
    dataset = MicroBatchLoader(
        reader(data, manifest, "train"),
        SampleDecoder(manifest),
        shape=manifest.values_shape,
        dtype=manifest.values_dtype,
        global_batch_size=8,
    )
    plan = SplitPlan(60, batch_size=4, rank=0, world_size=1)
    return load_batches(dataset, plan, num_workers=num_workers, timeout_s=timeout_s)


def test_slots_are_reused_in_turn_and_hold_the_largest_batch() -> None:
    found = list(Slots(iter(range(7)), 3, 3))  # type: ignore[arg-type]
    assert found == [(0, 0), (3, 1), (6, 2), (0, 3), (3, 4), (6, 5), (0, 6)]


def test_workers_load_the_same_batches_in_the_same_order(image_set: Path) -> None:
    for batch, expected in zip(load_train(image_set, num_workers=2), load_train(image_set, num_workers=0), strict=True):
        assert batch.keys == expected.keys
        assert batch.last == expected.last
        assert np.array_equal(batch.values, expected.values)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_damage_is_raised_with_its_type_and_ends_the_workers(damaged_set: Path, num_workers: int) -> None:
    other_children = active_children()
    with pytest.raises(DamagedDataError, match=r"shard-000000\.tar, sample s") as caught:
        list(load_train(damaged_set, num_workers=num_workers))
    # Although the exception keeps its frames.
    assert [child for child in active_children() if child not in other_children] == []
    assert caught.value.problems[0].expected == "the bytes that were written"


class HangingReader(ShardReader):
    def read(self, index: int) -> dict:
        time.sleep(600)
        return {}


def test_a_hanging_worker_is_an_error(image_set: Path) -> None:
    with pytest.raises(StalledError, match=r"data\.num_workers"):
        next(load_train(image_set, num_workers=1, timeout_s=1, reader=HangingReader))


class DyingReader(ShardReader):
    def read(self, index: int) -> dict:
        if index == 50:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read(index)


def test_a_dead_worker_is_an_error(image_set: Path) -> None:
    with pytest.raises(StalledError, match=r"data\.num_workers"):
        list(load_train(image_set, num_workers=1, reader=DyingReader))
