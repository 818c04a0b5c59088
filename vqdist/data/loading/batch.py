"""From verified shards to batches: what a rank has to load, in which order, and how a batch is put together.

The loader shards by itself: it must never be given to `accelerator.prepare`, which would split it again.
Workers change nothing but the speed, since what a batch holds follows from its step alone.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
import numpy.typing as npt
import torch

from vqdist.data.order import Indexes, Order, rank_positions
from vqdist.foundation.errors import DamagedDataError

NO_NUMBER = -1
SAMPLES_AHEAD = 1024  # whose order is worked out at a time

Array = npt.NDArray[Any]


class SampleReader(Protocol):
    """Random access to the samples of a split; `vqdist.data.shards.writer.ShardReader` is one."""

    shard_sizes: npt.NDArray[np.int64]

    def __len__(self) -> int: ...

    def read(self, index: int) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Request:
    """One micro-batch to load: the step it belongs to and the positions of the run that it holds."""

    step: int
    positions: npt.NDArray[np.int64]
    samples: npt.NDArray[np.int64]
    last: bool  # the last micro-batch of this rank's share of the step


@dataclass(frozen=True)
class Batch:
    """A micro-batch on its way to the model.

    Attributes:
        values: (B, C, H, W) uint8 images or (B, h, w) int64 codes.
        label: (B,) int64 class of each sample, NO_NUMBER where there is none.
        slice: (B,) int64 slice number of each sample, NO_NUMBER where there is none.
        positions: (B,) int64 position of each sample inside the global batch, NO_NUMBER for a blank sample.
        weights: (B,) float32, 1.0 for a sample of the dataset and 0.0 for a blank one. A micro-batch whose samples
            are all damaged has one blank sample of zeros, so that its rank takes part in the step's collectives.
        keys: key of each sample of the dataset; a blank sample has none.
        skipped: what was wrong with each sample that was left out (data.on_error skip).
    """

    step: int
    last: bool
    values: torch.Tensor
    label: torch.Tensor
    slice: torch.Tensor
    positions: torch.Tensor
    weights: torch.Tensor
    keys: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def num_samples(self) -> int:
        """Number of samples of the dataset; blank samples do not count."""
        return len(self.keys)

    def to(self, device: torch.device) -> Self:
        """Return the batch on a device; images stay uint8 until they are there."""
        if device.type == "cpu":
            return self
        names = ("values", "label", "slice", "positions", "weights")
        return replace(self, **{name: getattr(self, name).to(device, non_blocking=True) for name in names})


def to_images(values: torch.Tensor) -> torch.Tensor:
    """Return uint8 images as float in [0, 1]."""
    return values.float().div_(255)


class SampleInfo(NamedTuple):
    """What is known of a sample beside its values; NO_NUMBER where it has no label or slice."""

    key: str
    label: int
    slice: int


BLANK = SampleInfo("", 0, 0)


@dataclass(frozen=True)
class Loaded:
    """What a loader worker tells of a micro-batch: all but the values, which it wrote into memory.

    Attributes:
        facts, places: of each sample: what is known of it and its position inside the global batch.
    """

    step: int
    last: bool
    facts: list[SampleInfo]
    places: list[int]
    skipped: list[str]

    @property
    def rows(self) -> int:
        """Rows of values; a micro-batch of which all is damaged has one, blank, so that its rank keeps step."""
        return max(len(self.facts), 1)

    def to_batch(self, values: Array, *, pin_memory: bool = False) -> Batch:
        """Build the batch from its values, (rows, ...); they are copied."""
        kind = torch.uint8 if values.dtype == np.uint8 else torch.int64
        copied = torch.empty(values.shape, dtype=kind, pin_memory=pin_memory)
        np.copyto(copied.numpy(), values)
        facts = self.facts or [BLANK]
        return Batch(
            self.step,
            self.last,
            values=copied,
            label=_column([info.label for info in facts], pin_memory),
            slice=_column([info.slice for info in facts], pin_memory),
            positions=_column(self.places or [NO_NUMBER], pin_memory),
            weights=_column([float(info is not BLANK) for info in facts], pin_memory),
            keys=[info.key for info in self.facts],
            skipped=self.skipped,
        )


def _column(numbers: list[int] | list[float], pin_memory: bool) -> torch.Tensor:
    column = torch.tensor(numbers)
    return column.pin_memory() if pin_memory else column


class Cache(Protocol):
    """Decoded samples, kept; `vqdist.data.loading.sample_cache.SampleCache` is one."""

    def is_complete(self) -> bool: ...

    def take(self, indexes: Sequence[int] | Indexes, out: Array) -> list[SampleInfo] | None: ...

    def put(self, index: int, values: Array, facts: SampleInfo) -> None: ...


class SampleDataset:
    """Loads a micro-batch at a time: read, verify, decode.

    Args:
        reader: verified access to the samples of a split.
        decode: (sample dict) -> uint8 (C, H, W) image or (h, w) codes.
        shape: of a sample's values.
        dtype: in which values travel: uint8 for images, int32 for codes.
        global_batch_size: turns positions of the run into positions inside a global batch.
        skip_damaged: leave damaged samples out and say so, instead of raising.
        cache: of decoded samples; None: decode every time.
    """

    def __init__(
        self,
        reader: SampleReader,
        decode: Callable[[dict[str, Any]], Array],
        *,
        shape: tuple[int, ...],
        dtype: npt.DTypeLike,
        global_batch_size: int,
        skip_damaged: bool = False,
        cache: Cache | None = None,
    ) -> None:
        self.reader = reader
        self.decode = decode
        self.shape, self.dtype = shape, np.dtype(dtype)
        self.global_batch_size = global_batch_size
        self.skip_damaged = skip_damaged
        self.cache = cache

    def is_cached(self) -> bool:
        """Tell whether nothing is left to decode."""
        return self.cache is not None and self.cache.is_complete()

    def load(self, request: Request, *, pin_memory: bool = False) -> Batch:
        """Return a micro-batch, loaded in this process."""
        values = np.empty((max(len(request.samples), 1), *self.shape), self.dtype)
        loaded = self.load_into(request, values)
        return loaded.to_batch(values[: loaded.rows], pin_memory=pin_memory)

    def load_into(self, request: Request, values: Array) -> Loaded:
        """Write a micro-batch's values into the first rows of an array and tell the rest.

        Raises:
            DamagedDataError: a sample is not what its index says, and damage is not to be skipped.
        """
        places = (request.positions % self.global_batch_size).tolist()
        if self.cache is not None and (facts := self.cache.take(request.samples, values)) is not None:
            return Loaded(request.step, request.last, facts, places, [])
        loaded = Loaded(request.step, request.last, [], [], [])
        for place, index in zip(places, request.samples.tolist(), strict=True):
            try:
                loaded.facts.append(self._load_sample(index, values[len(loaded.facts) :][:1]))
            except DamagedDataError as error:
                if not self.skip_damaged:
                    raise
                loaded.skipped.append(str(error))
                continue
            loaded.places.append(place)
        if not loaded.facts:
            values[0] = 0
        return loaded

    def _load_sample(self, index: int, out: Array) -> SampleInfo:
        if self.cache is not None and (found := self.cache.take([index], out)) is not None:
            return found[0]
        sample = self.reader.read(index)
        out[0] = self.decode(sample)
        info = sample["json"]
        facts = SampleInfo(sample["__key__"], _number(info.get("label")), _number(info.get("slice")))
        if self.cache is not None:
            self.cache.put(index, out[0], facts)
        return facts


def _number(value: int | None) -> int:
    return NO_NUMBER if value is None else value


class Requests(Protocol):
    """The micro-batches that a rank is to load, one after the other; no more than most_samples in each."""

    most_samples: int

    def __iter__(self) -> Iterator[Request]: ...


class TrainRequests:
    """The micro-batches of one rank from a step on, without end."""

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
        self.most_samples = min(micro_batch_size or share, share)
        self.rank, self.world_size, self.step = rank, world_size, step

    def __iter__(self) -> Iterator[Request]:
        step = self.step
        # The order of many steps costs hardly more than that of one.
        block = max(1, SAMPLES_AHEAD // self.most_samples)
        while True:
            shares = [
                rank_positions(number, self.global_batch_size, self.rank, self.world_size)
                for number in range(step, step + block)
            ]
            samples = self.order.samples(np.concatenate(shares))
            ends = np.cumsum([len(share) for share in shares])
            for share, part in zip(shares, np.split(samples, ends[:-1]), strict=True):
                step += 1
                yield from _requests(step, share, part, self.most_samples)


class SplitRequests:
    """Every sample of a split once, in order, dealt out to the ranks."""

    def __init__(self, num_samples: int, *, batch_size: int, rank: int, world_size: int) -> None:
        self.samples = np.arange(rank, num_samples, world_size, dtype=np.int64)
        self.most_samples = batch_size

    def __iter__(self) -> Iterator[Request]:
        return _requests(0, self.samples, self.samples, self.most_samples)


def _requests(
    step: int, positions: npt.NDArray[np.int64], samples: npt.NDArray[np.int64], size: int
) -> Iterator[Request]:
    for start in range(0, len(positions), size):
        part = slice(start, start + size)
        yield Request(step, positions[part], samples[part], last=start + size >= len(positions))


def steps_of(batches: Iterator[Batch]) -> Iterator[list[Batch]]:
    """Group the micro-batches of each step."""
    group: list[Batch] = []
    for batch in batches:
        group.append(batch)
        if batch.last:
            yield group
            group = []


def is_worker_fault(error: RuntimeError) -> bool:
    """Tell whether torch means by an error that a loader worker died or hung.

    It may raise it anywhere: a worker's death interrupts whatever the main thread is at.
    """
    return "DataLoader worker" in str(error) or "DataLoader timed out" in str(error)


def describe_worker_fault(error: RuntimeError) -> str:
    """Return what to tell a person about a loader worker that died or hung."""
    return f"data.num_workers: a loader worker died, or gave nothing for run.timeout_s: {error}"


class FixedBatchPlan:
    """Plan the batches of one rank in a pass whose batches must not depend on the number of ranks.

    Batch b goes to rank b % world_size.

    Args:
        batches: sample numbers of each batch of the pass, of all ranks.
    """

    def __init__(self, batches: Sequence[Indexes], *, rank: int = 0, world_size: int = 1) -> None:
        self.batches = batches[rank::world_size]
        self.most_samples = max(map(len, self.batches), default=0)

    def __iter__(self) -> Iterator[Request]:
        return (Request(0, numbers, numbers, last=True) for numbers in self.batches)
