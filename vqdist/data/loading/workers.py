"""Loader processes: they decode into rows that they share with their rank, so that no batch is sent through a pipe."""

import signal
import sys
import time
import warnings
import weakref
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing import active_children
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple

from torch.utils.data import DataLoader, Dataset

from vqdist.data.loading.batch import (
    Batch,
    Loaded,
    Request,
    Requests,
    SampleDataset,
    describe_worker_fault,
    is_worker_fault,
)
from vqdist.data.loading.shared_memory import SharedRows
from vqdist.foundation.errors import StalledError, VqdistError

BATCHES_AHEAD = 4  # of each worker
KILL_S = 10.0
CHECK_EVERY = 64  # batches between two looks whether all samples are in memory


def load_batches(
    dataset: SampleDataset, requests: Requests, *, num_workers: int, timeout_s: float, pin_memory: bool = False
) -> Iterator[Batch]:
    """Yield the batch of each request, in order.

    Args:
        num_workers: processes; 0 loads in this one.
        timeout_s: most seconds that a worker may be silent while its batch is waited for.
        pin_memory: put batches into page-locked memory, for a GPU.
    Raises:
        DamagedDataError: a sample is not what its index says (and damage is not to be skipped).
        StalledError: a loader worker died, or gave nothing for timeout_s seconds.
    """
    left = iter(requests)
    if num_workers > 0 and not dataset.is_cached():
        slots = Slots(_until_cached(left, dataset), num_workers * BATCHES_AHEAD + 2, requests.most_samples)
        yield from _load_by_workers(dataset, slots, num_workers, timeout_s, pin_memory)
    for request in left:
        yield dataset.load(request, pin_memory=pin_memory)


def _until_cached(requests: Iterator[Request], dataset: SampleDataset) -> Iterator[Request]:
    """Pass requests on until all samples are in memory: then it is faster to copy them here than to ask workers."""
    for number, request in enumerate(requests):
        yield request
        if number % CHECK_EVERY == 0 and dataset.is_cached():
            return


def _load_by_workers(
    dataset: SampleDataset, slots: "Slots", num_workers: int, timeout_s: float, pin_memory: bool
) -> Iterator[Batch]:
    rows = SharedRows(slots.count * slots.most_samples, dataset.shape, dataset.dtype)
    loader = DataLoader(
        _Filler(dataset, rows),
        sampler=slots,
        batch_size=None,
        collate_fn=_as_is,
        num_workers=num_workers,
        worker_init_fn=_quiet_worker,
        timeout=timeout_s,
        prefetch_factor=BATCHES_AHEAD,
        # Python 3.14 would import torch in each worker anew, for seconds at every evaluation.
        multiprocessing_context="fork" if sys.platform == "linux" else None,
    )
    others = active_children()
    with warnings.catch_warnings():
        # Torch has threads; a worker uses none of them.
        warnings.filterwarnings("ignore", message=".*multi-threaded.*fork", category=DeprecationWarning)
        answers = iter(loader)
    workers = [child for child in active_children() if child not in others]
    # Workers are deaf to SIGTERM, which is all that multiprocessing sends before it waits for them at exit.
    weakref.finalize(answers, _kill, workers)
    try:
        for filled in answers:
            if isinstance(filled, VqdistError):
                raise filled
            values = rows.array[filled.start : filled.start + filled.loaded.rows]
            yield filled.loaded.to_batch(values, pin_memory=pin_memory)
    except RuntimeError as error:
        _kill(workers)
        if not is_worker_fault(error):
            raise
        raise StalledError(describe_worker_fault(error)) from error
    finally:
        # Workers end here. An error that is kept would keep this frame, and leave them to whichever thread then
        # collects it: torch's handler would raise in the main thread, wherever that is.
        del answers


class Slots:
    """Names for each request the first of the rows that its batch is written to; they are used again in turn.

    Args:
        count: at least what may be under way at once. Torch asks for another batch when one has come, before
            that one is handed on: hence two more than the workers have before them.
    """

    def __init__(self, requests: Iterator[Request], count: int, most_samples: int) -> None:
        self._requests = requests
        self.count, self.most_samples = count, most_samples

    def __iter__(self) -> Iterator[tuple[int, Request]]:
        for number, request in enumerate(self._requests):
            yield (number % self.count) * self.most_samples, request


class _Filled(NamedTuple):
    start: int  # the first of its rows
    loaded: Loaded


class _Filler(Dataset[Any]):
    """Loads into shared rows. Hands our errors out as values; torch would make new ones out of their text."""

    def __init__(self, dataset: SampleDataset, rows: SharedRows) -> None:
        self._dataset = dataset
        self._rows = rows

    def __getitem__(self, place: tuple[int, Request]) -> _Filled | VqdistError:
        start, request = place
        try:
            return _Filled(start, self._dataset.load_into(request, self._rows.array[start:]))
        except VqdistError as error:
            return error


def _kill(workers: Sequence[BaseProcess]) -> None:
    """Kill workers; one that a dead disk holds in the kernel is left to it after a while."""
    deadline = time.monotonic() + KILL_S
    for worker in workers:
        while worker.is_alive() and (left := deadline - time.monotonic()) > 0:
            # Torch raises from a signal handler when a worker ends by a signal, wherever the main thread is.
            with suppress(RuntimeError):
                worker.kill()
                worker.join(left)


def _as_is(filled: Any) -> Any:
    return filled


def _quiet_worker(_: int) -> None:
    # Signals reach every process of a job; the rank decides what they mean and ends its workers itself.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
