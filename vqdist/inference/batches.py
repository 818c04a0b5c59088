"""One pass over a split by all ranks, in batches that are the same for any number of them.

Batch b holds samples [bB, (b + 1)B) of the split and goes to rank b % W. Which rank computes a batch changes nothing
in it, so that what is measured or encoded does not depend on the ranks.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vqdist.data.loading.batch import NO_NUMBER, Batch
from vqdist.data.loading.pipeline import SampleDecoder
from vqdist.data.shards.manifest import Manifest
from vqdist.data.shards.reader import ShardReader
from vqdist.distributed.process_group import Ranks
from vqdist.foundation.errors import DataError, UserError

T = TypeVar("T")
Sample = dict[str, Any]
Numbers = Sequence[int] | npt.NDArray[np.int64]


def fixed_batches(
    num_samples: int, *, batch_size: int, rank: int = 0, world_size: int = 1
) -> Iterator[npt.NDArray[np.int64]]:
    """Yield the samples of each batch of one rank: every W-th of the batches of [0, num_samples)."""
    for start in range(rank * batch_size, num_samples, world_size * batch_size):
        yield np.arange(start, min(start + batch_size, num_samples), dtype=np.int64)


def open_split(data: str | Path, manifest: Manifest, split: str) -> ShardReader:
    """Open a split that must hold samples.

    Raises:
        DataError: no such split, or an empty one.
    """
    reader = ShardReader(data, manifest, split)
    if not len(reader):
        raise DataError.of(str(data), f"no samples in {split}", "at least one")
    return reader


def read_batches(
    reader: ShardReader, manifest: Manifest, *, batch_size: int, rank: int = 0, world_size: int = 1
) -> Iterator[Batch]:
    """Yield this rank's batches of a split; `positions` are the samples' numbers in the split."""
    for samples in fixed_batches(len(reader), batch_size=batch_size, rank=rank, world_size=world_size):
        yield read_batch(reader, manifest, samples)


def read_batch(reader: ShardReader, manifest: Manifest, numbers: Numbers) -> Batch:
    """Read, verify and decode samples of a split, given by their numbers."""
    samples = read_samples(reader, numbers)
    return Batch(
        step=0,
        last=True,
        values=stack_values(samples, manifest),
        label=_integers(samples, "label"),
        slice=_integers(samples, "slice"),
        positions=torch.as_tensor(np.asarray(numbers, dtype=np.int64)),
        weights=torch.ones(len(samples)),
        keys=[sample["__key__"] for sample in samples],
    )


def read_samples(reader: ShardReader, numbers: Numbers) -> list[Sample]:
    """Read and verify samples of a split, given by their numbers."""
    return [reader.read(int(number)) for number in numbers]


def stack_values(samples: list[Sample], manifest: Manifest) -> Tensor:
    """Decode samples into (B, C, H, W) uint8 images or (B, h, w) int64 codes."""
    decode = SampleDecoder(manifest)
    return torch.from_numpy(np.stack([decode(sample) for sample in samples]))


def _integers(samples: list[Sample], name: str) -> Tensor:
    values = [sample["json"].get(name) for sample in samples]
    return torch.tensor([value if type(value) is int else NO_NUMBER for value in values], dtype=torch.int64)


def gather_outcomes(ranks: Ranks, work: Callable[[], T]) -> list[T]:
    """Do a piece of work on each rank and return the results of all, in rank order.

    A UserError of any rank is raised on every rank, so that none waits for one that has left.
    Collective: all ranks.
    """
    outcome: tuple[T | None, tuple[type[UserError], list[Any]] | None]
    try:
        outcome = work(), None
    except UserError as error:
        outcome = None, (type(error), error.problems)
    outcomes = ranks.gather_objects(outcome)
    for _, failure in outcomes:
        if failure is not None:
            kind, problems = failure
            raise kind(problems)
    return [result for result, _ in outcomes]


def on_main(ranks: Ranks, work: Callable[[], T]) -> T:
    """Do a piece of work on rank 0 and return its result on every rank; its UserError is raised on every rank.

    A model that a training run may replace at any moment is read so: all ranks get the same one.
    Collective: all ranks.
    """
    return gather_outcomes(ranks, lambda: [work()] if ranks.is_main else [])[0][0]


def map_batches(
    ranks: Ranks, num_samples: int, work: Callable[[npt.NDArray[np.int64]], T], *, batch_size: int
) -> list[T]:
    """Return what the work makes of each batch of samples, in the batches' order, on every rank.

    Args:
        work: (numbers of the batch's samples) -> something that can be pickled.
    Collective: all ranks.
    """

    def share() -> list[T]:
        batches = fixed_batches(num_samples, batch_size=batch_size, rank=ranks.rank, world_size=ranks.world_size)
        with torch.inference_mode():
            return [work(numbers) for numbers in batches]

    shares = gather_outcomes(ranks, share)
    batches = -(-num_samples // batch_size)
    return [shares[number % ranks.world_size][number // ranks.world_size] for number in range(batches)]


def measure_split(
    ranks: Ranks,
    reader: ShardReader,
    manifest: Manifest,
    measure: Callable[[Batch], dict[str, Tensor]],
    *,
    batch_size: int,
) -> dict[str, npt.NDArray[np.float64]]:
    """Return each measured value of every sample of a split, (N,) in the split's order, on every rank.

    Args:
        measure: (batch on the device) -> name -> (B,) values.
    Collective: all ranks.
    """

    def work(numbers: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[np.float64]]:
        values = measure(read_batch(reader, manifest, numbers).to(ranks.device))
        return {name: value.cpu().double().numpy() for name, value in values.items()}

    tables = map_batches(ranks, len(reader), work, batch_size=batch_size)
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}


def subjects_of(reader: ShardReader) -> list[str]:
    """Return the subject of each sample of a split; a sample without one is its own subject."""
    return [reader.subject(index) or reader.key(index) for index in range(len(reader))]
