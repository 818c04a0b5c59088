"""Loading plans: which samples a rank loads for each micro-batch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from vqdist.data.order import Indexes, Order, rank_positions

SAMPLES_PLANNED_AT_ONCE = 1024


@dataclass(frozen=True)
class MicroBatchPlan:
    """The samples of one micro-batch.

    Attributes:
        step: the step it belongs to, from 1; 0 outside training.
        positions: (B,) int64 position of each sample in the run, or in the split.
        samples: (B,) int64 index of each sample in its split.
        last: whether it is the last micro-batch of this rank in the step.
    """

    step: int
    positions: Indexes
    samples: Indexes
    last: bool


class Plan(Protocol):
    """The micro-batches that a rank loads, in order, each of at most max_samples samples."""

    max_samples: int

    def __iter__(self) -> Iterator[MicroBatchPlan]: ...


class TrainPlan:
    """The micro-batches of one rank for all steps after `step`, without end.

    Args:
        order: order of the train split.
        global_batch_size: samples per step over all ranks.
        micro_batch_size: most samples per micro-batch; None: the rank's whole share of a step.
        step: optimizer updates so far.
    """

    def __init__(
        self,
        order: Order,
        *,
        global_batch_size: int,
        micro_batch_size: int | None,
        rank: int,
        world_size: int,
        step: int,
    ) -> None:
        self.order = order
        self.global_batch_size = global_batch_size
        share = -(-global_batch_size // world_size)
        self.max_samples = min(micro_batch_size or share, share)
        self.rank, self.world_size, self.step = rank, world_size, step

    def __iter__(self) -> Iterator[MicroBatchPlan]:
        step = self.step
        # Computing the order of many steps in one call takes hardly longer than that of a single step.
        steps_at_once = max(1, SAMPLES_PLANNED_AT_ONCE // self.max_samples)
        while True:
            shares = [
                rank_positions(batch, self.global_batch_size, self.rank, self.world_size)
                for batch in range(step, step + steps_at_once)
            ]
            samples = self.order.samples(np.concatenate(shares))
            ends = np.cumsum([len(share) for share in shares])
            for share, part in zip(shares, np.split(samples, ends[:-1]), strict=True):
                step += 1
                yield from _split(step, share, part, self.max_samples)


class SplitPlan:
    """One rank's share of a split: samples rank, rank + world_size, ..., each once and in order."""

    def __init__(self, num_samples: int, *, batch_size: int, rank: int, world_size: int) -> None:
        self.samples = np.arange(rank, num_samples, world_size, dtype=np.int64)
        self.max_samples = batch_size

    def __iter__(self) -> Iterator[MicroBatchPlan]:
        return _split(0, self.samples, self.samples, self.max_samples)


class FixedBatchPlan:
    """One rank's share of batches that do not depend on the number of ranks: batches rank, rank + world_size, ... .

    Args:
        batches: sample indexes of each batch, of all ranks.
    """

    def __init__(self, batches: Sequence[Indexes], *, rank: int = 0, world_size: int = 1) -> None:
        self.batches = batches[rank::world_size]
        self.max_samples = max(map(len, self.batches), default=0)

    def __iter__(self) -> Iterator[MicroBatchPlan]:
        return (MicroBatchPlan(0, samples, samples, last=True) for samples in self.batches)


def _split(step: int, positions: Indexes, samples: Indexes, size: int) -> Iterator[MicroBatchPlan]:
    for start in range(0, len(positions), size):
        part = slice(start, start + size)
        yield MicroBatchPlan(step, positions[part], samples[part], last=start + size >= len(positions))
