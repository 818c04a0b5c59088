"""From verified shards to batches: a torch dataset over the order, dealt out to ranks and workers.

The loader shards by itself: it must never be given to `accelerator.prepare`, which would split it again.
Workers change nothing but the speed, since what a batch holds follows from its step alone.
"""

import signal
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import active_children
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from vqdist.data.order import Order, rank_positions
from vqdist.errors import DamagedDataError, Problem, StalledError, UserError

NO_NUMBER = -1


class SampleReader(Protocol):
    """Random access to the samples of a split; `vqdist.data.shards.ShardReader` is one."""

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
        positions: (B,) int64 position of each sample inside the global batch.
        keys: key of each sample.
        skipped: what was wrong with each sample that was left out (data.on_error skip).
    """

    step: int
    last: bool
    values: torch.Tensor
    label: torch.Tensor
    slice: torch.Tensor
    positions: torch.Tensor
    keys: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.keys)

    def _map(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Self:
        tensors = (change(tensor) for tensor in (self.values, self.label, self.slice, self.positions))
        return type(self)(self.step, self.last, *tensors, keys=self.keys, skipped=self.skipped)

    def pin_memory(self) -> Self:
        return self._map(torch.Tensor.pin_memory)

    def to(self, device: torch.device) -> Self:
        """Return the batch on a device; images stay uint8 until they are there."""
        if device.type == "cpu":
            return self
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))


class SampleDataset(Dataset[Batch]):
    """Loads a micro-batch at a time: read, verify, decode, stack.

    Args:
        reader: verified access to the samples of a split.
        decode: (sample dict) -> uint8 (C, H, W) image or int64 (h, w) codes.
        global_batch_size: turns positions of the run into positions inside a global batch.
        blank_shape: of one sample.
        skip_damaged: leave damaged samples out and say so, instead of raising.
    """

    def __init__(
        self,
        reader: SampleReader,
        decode: Callable[[dict[str, Any]], npt.NDArray[Any]],
        *,
        global_batch_size: int,
        blank_shape: tuple[int, ...],
        skip_damaged: bool = False,
    ) -> None:
        self.reader = reader
        self.decode = decode
        self.blank_shape = blank_shape
        self.global_batch_size = global_batch_size
        self.skip_damaged = skip_damaged

    def __len__(self) -> int:
        return len(self.reader)

    def __getitem__(self, request: Request) -> Batch:
        values, infos, keys, positions, skipped = [], [], [], [], []
        for position, index in zip(request.positions, request.samples, strict=True):
            try:
                sample = self.reader.read(int(index))
                values.append(self.decode(sample))
            except DamagedDataError as error:
                if not self.skip_damaged:
                    raise
                skipped.append(str(error))
                continue
            infos.append(sample["json"])
            keys.append(sample["__key__"])
            positions.append(position % self.global_batch_size)
        return Batch(
            request.step,
            request.last,
            # A micro-batch of which all is damaged holds one blank sample, so that its rank can keep step with
            # the others; it has no key and counts for nothing.
            torch.from_numpy(np.stack(values or [np.zeros(self.blank_shape, dtype=np.int64)])),
            _numbers(infos or [{"label": 0, "slice": 0}], "label"),
            _numbers(infos or [{"label": 0, "slice": 0}], "slice"),
            torch.tensor(positions or [NO_NUMBER], dtype=torch.int64),
            keys,
            skipped,
        )


class TrainRequests(Sampler[Request]):
    """The micro-batches of one rank from a step on, without end."""

    def __init__(
        self,
        order: Order,
        *,
        global_batch_size: int,
        micro_batch_size: int | None,
        rank: int,
        world: int,
        step: int,
    ) -> None:
        self.order = order
        self.global_batch_size = global_batch_size
        self.micro_batch_size = micro_batch_size or global_batch_size
        self.rank, self.world, self.step = rank, world, step

    def __iter__(self) -> Iterator[Request]:
        step = self.step
        while True:
            positions = rank_positions(step, self.global_batch_size, self.rank, self.world)
            step += 1
            yield from _requests(step, positions, self.order.samples(positions), self.micro_batch_size)


class SplitRequests(Sampler[Request]):
    """Every sample of a split once, in order, dealt out to the ranks."""

    def __init__(self, num_samples: int, *, batch_size: int, rank: int, world: int) -> None:
        self.samples = np.arange(rank, num_samples, world, dtype=np.int64)
        self.batch_size = batch_size

    def __iter__(self) -> Iterator[Request]:
        return _requests(0, self.samples, self.samples, self.batch_size)


def _requests(
    step: int, positions: npt.NDArray[np.int64], samples: npt.NDArray[np.int64], size: int
) -> Iterator[Request]:
    for start in range(0, len(positions), size):
        part = slice(start, start + size)
        yield Request(step, positions[part], samples[part], last=start + size >= len(positions))


def load_batches(
    dataset: SampleDataset,
    requests: Sampler[Request],
    *,
    num_workers: int,
    timeout_s: float,
    pin_memory: bool = False,
) -> Iterator[Batch]:
    """Yield the batch of each request, in order.

    Raises:
        DamagedDataError: a sample is not what its index says (and damage is not to be skipped).
        StalledError: a loader worker died, or gave nothing for timeout_s seconds.
    """
    loader = DataLoader(
        _Messenger(dataset),
        sampler=requests,
        batch_size=None,
        collate_fn=_as_is,
        num_workers=num_workers,
        worker_init_fn=_quiet_worker,
        timeout=timeout_s if num_workers else 0,
        prefetch_factor=4 if num_workers else None,
        pin_memory=pin_memory,
    )
    others = active_children()
    batches = iter(loader)
    workers = [child for child in active_children() if child not in others]
    # Workers are deaf to SIGTERM, which is all that multiprocessing sends before it waits for them at exit.
    weakref.finalize(batches, _kill, workers)
    try:
        for found in batches:
            if isinstance(found, _Refusal):
                raise found.kind(found.problems)
            yield found
    except RuntimeError as error:
        if not is_worker_fault(error):
            raise
        _kill(workers)
        raise StalledError(describe_worker_fault(error)) from error


def is_worker_fault(error: RuntimeError) -> bool:
    """Tell whether torch means by an error that a loader worker died or hung.

    It may raise it anywhere: a worker's death interrupts whatever the main thread is at.
    """
    return "DataLoader worker" in str(error) or "DataLoader timed out" in str(error)


def describe_worker_fault(error: RuntimeError) -> str:
    """Return what to tell a person about a loader worker that died or hung."""
    return f"data.num_workers: a loader worker died, or gave nothing for run.timeout_s: {error}"


class _Refusal(NamedTuple):
    """An error of ours on its way out of a worker."""

    kind: type[UserError]
    problems: list[Problem]


class _Messenger(Dataset[Any]):
    """Hands errors of ours out of a worker as values; torch would make new ones out of their text."""

    def __init__(self, dataset: SampleDataset) -> None:
        self._dataset = dataset

    def __getitem__(self, request: Request) -> Batch | _Refusal:
        try:
            return self._dataset[request]
        except UserError as error:
            return _Refusal(type(error), error.problems)


def _kill(workers: Sequence[BaseProcess]) -> None:
    for worker in workers:
        if worker.is_alive():
            worker.kill()


def steps_of(batches: Iterator[Batch]) -> Iterator[list[Batch]]:
    """Group the micro-batches of each step."""
    group: list[Batch] = []
    for batch in batches:
        group.append(batch)
        if batch.last:
            yield group
            group = []


def _as_is(batch: Batch) -> Batch:
    return batch


def _quiet_worker(_: int) -> None:
    # Signals reach every process of a job; the rank decides what they mean and ends its workers itself.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


def _numbers(infos: list[dict[str, Any]], name: str) -> torch.Tensor:
    values = [info.get(name) for info in infos]
    return torch.tensor([NO_NUMBER if value is None else value for value in values], dtype=torch.int64)
