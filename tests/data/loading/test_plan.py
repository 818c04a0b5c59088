"""Loading plans: over all ranks, micro-batches contain exactly the samples of the order or the split."""

import tracemalloc
from itertools import islice

import numpy as np
import pytest

from vqdist.data.loading import plan
from vqdist.data.loading.plan import FixedBatchPlan, SplitPlan, TrainPlan
from vqdist.data.order import Order


@pytest.mark.parametrize("kind", ["windowed", "full"])
@pytest.mark.parametrize("micro_batch_size", [None, 1, 3])
def test_ranks_load_the_samples_of_the_order(
    kind: str, micro_batch_size: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "SAMPLES_PLANNED_AT_ONCE", 4)  # so that the steps are planned in several blocks
    order = Order(np.array([7, 7, 7, 2]), kind=kind, window_shards=2, seed=4)
    for world_size in (1, 2, 3, 5):
        for step in (0, 1, 9):
            loaded: dict[int, list[tuple[int, int]]] = {}
            for rank in range(world_size):
                micro_batches = TrainPlan(
                    order,
                    global_batch_size=5,
                    micro_batch_size=micro_batch_size,
                    rank=rank,
                    world_size=world_size,
                    step=step,
                )
                previous_is_last = True
                for micro_batch in islice(micro_batches, 40):
                    assert 1 <= len(micro_batch.samples) <= micro_batches.max_samples <= (micro_batch_size or 5)
                    found = loaded.setdefault(micro_batch.step, [])
                    starts_step = (micro_batch.step - 1) * 5 + rank in micro_batch.positions
                    assert starts_step == previous_is_last
                    found += zip(micro_batch.positions.tolist(), micro_batch.samples.tolist(), strict=True)
                    previous_is_last = micro_batch.last
            for number in range(step + 1, step + 6):
                positions = np.arange(5 * (number - 1), 5 * number)
                expected = list(zip(positions.tolist(), order.samples(positions).tolist(), strict=True))
                assert sorted(loaded[number]) == expected


@pytest.mark.parametrize("world_size", [1, 3])
def test_ranks_load_each_sample_of_a_split_once(world_size: int) -> None:
    found = []
    for rank in range(world_size):
        micro_batches = list(SplitPlan(10, batch_size=2, rank=rank, world_size=world_size))
        assert [micro_batch.last for micro_batch in micro_batches] == [False] * (len(micro_batches) - 1) + [True]
        for micro_batch in micro_batches:
            assert len(micro_batch.samples) <= 2
            assert (micro_batch.samples % world_size == rank).all()
            assert np.array_equal(micro_batch.positions, micro_batch.samples)
            found += micro_batch.samples.tolist()
    assert sorted(found) == list(range(10))


def test_a_rank_without_samples_has_no_micro_batches() -> None:
    assert list(SplitPlan(2, batch_size=2, rank=2, world_size=3)) == []


def test_fixed_batches_are_the_same_for_any_number_of_ranks() -> None:
    batches = [np.arange(3), np.arange(3, 5), np.arange(5, 9), np.arange(9, 10)]
    ranks = [FixedBatchPlan(batches, rank=rank, world_size=3) for rank in range(3)]
    found = [[micro_batch.samples.tolist() for micro_batch in rank] for rank in ranks]
    assert found == [[[0, 1, 2], [9]], [[3, 4]], [[5, 6, 7, 8]]]
    assert [rank.max_samples for rank in ranks] == [3, 2, 4]
    assert all(micro_batch.last for rank in ranks for micro_batch in rank)
    assert FixedBatchPlan([], rank=0, world_size=1).max_samples == 0


def test_memory_does_not_grow_with_the_world_size() -> None:
    order = Order(np.full(4000, 256), kind="windowed", window_shards=8, seed=0)
    peaks = []
    for world_size in (1, 1024):
        micro_batches = TrainPlan(
            order, global_batch_size=2048, micro_batch_size=None, rank=0, world_size=world_size, step=0
        )
        tracemalloc.start()
        list(islice(micro_batches, 20))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] <= peaks[0] * 1.1
