"""Loader workers: processes that decode into memory shared with their rank, so that no batch is sent through a pipe."""

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

from vqdist.data.loading.batch import Batch
from vqdist.data.loading.micro_batch_loader import LoadedMicroBatch, MicroBatchLoader
from vqdist.data.loading.plan import MicroBatchPlan, Plan
from vqdist.data.loading.shared_memory import SharedRows
from vqdist.foundation.errors import VqdistError, find_worker_fault

BATCHES_AHEAD = 4  # per worker
KILL_TIMEOUT_S = 10.0
CACHE_CHECK_INTERVAL = 64  # micro-batches


def load_batches(
    dataset: MicroBatchLoader, plan: Plan, *, num_workers: int, timeout_s: float, pin_memory: bool = False
) -> Iterator[Batch]:
    """Yield the batches of a plan, in order.

    Args:
        num_workers: number of processes; 0 loads in this process.
        timeout_s: seconds to wait for a worker's batch.
        pin_memory: put batches into page-locked memory, for a GPU.
    Raises:
        DamagedDataError: a sample differs from its index, and damaged samples are not skipped.
        StalledError: a loader worker died, or returned no batch within timeout_s seconds.
    """
    remaining = iter(plan)
    if num_workers > 0 and not dataset.is_cached():
        slots = Slots(_until_cached(remaining, dataset), num_workers * BATCHES_AHEAD + 2, plan.max_samples)
        yield from _load_by_workers(dataset, slots, num_workers, timeout_s, pin_memory)
    for micro_batch in remaining:
        yield dataset.load(micro_batch, pin_memory=pin_memory)


def _until_cached(plan: Iterator[MicroBatchPlan], dataset: MicroBatchLoader) -> Iterator[MicroBatchPlan]:
    """Yield micro-batches until every sample is cached; then copying in this process is faster than using workers."""
    for number, micro_batch in enumerate(plan):
        yield micro_batch
        if number % CACHE_CHECK_INTERVAL == 0 and dataset.is_cached():
            return


def _load_by_workers(
    dataset: MicroBatchLoader, slots: "Slots", num_workers: int, timeout_s: float, pin_memory: bool
) -> Iterator[Batch]:
    rows = SharedRows(slots.count * slots.max_samples, dataset.loaded_shape, dataset.dtype)
    loader = DataLoader(
        _SlotFiller(dataset, rows),
        sampler=slots,
        batch_size=None,
        collate_fn=_identity,
        num_workers=num_workers,
        worker_init_fn=_ignore_signals,
        timeout=timeout_s,
        prefetch_factor=BATCHES_AHEAD,
        # The default of Python 3.14 would import torch in each worker, which takes seconds at every evaluation.
        multiprocessing_context="fork" if sys.platform == "linux" else None,
    )
    other_children = active_children()
    with warnings.catch_warnings():
        # Torch has threads, which Python warns of at a fork; a worker uses none of them.
        warnings.filterwarnings("ignore", message=".*multi-threaded.*fork", category=DeprecationWarning)
        results = iter(loader)
    workers = [child for child in active_children() if child not in other_children]
    # Workers ignore SIGTERM, which is all that multiprocessing sends before it waits for them at exit.
    weakref.finalize(results, _kill, workers)
    try:
        for filled in results:
            if isinstance(filled, VqdistError):
                raise filled
            values = rows.array[filled.first_row : filled.first_row + filled.loaded.num_rows]
            yield filled.loaded.to_batch(values, pin_memory=pin_memory)
    except RuntimeError as error:
        _kill(workers)
        if (fault := find_worker_fault(error)) is None:
            raise
        raise fault from error
    finally:
        # Ends the workers here. A caller that keeps an exception also keeps this frame; the workers would then end
        # when any thread collects it, and torch's handler would raise wherever the main thread is.
        del results


class Slots:
    """Pairs each micro-batch with the first row of a slot in shared memory; slots are reused in turn.

    Args:
        count: number of slots, at least the micro-batches in flight. Torch requests the next one when one arrives,
            before it returns that one: hence two more than the workers have queued.
        max_samples: rows of a slot.
    """

    def __init__(self, plan: Iterator[MicroBatchPlan], count: int, max_samples: int) -> None:
        self._plan = plan
        self.count, self.max_samples = count, max_samples

    def __iter__(self) -> Iterator[tuple[int, MicroBatchPlan]]:
        for number, micro_batch in enumerate(self._plan):
            yield (number % self.count) * self.max_samples, micro_batch


class _FilledSlot(NamedTuple):
    first_row: int
    loaded: LoadedMicroBatch


class _SlotFiller(Dataset[Any]):
    """Loads micro-batches into shared rows.

    Returns errors of this package as values, because torch rebuilds exceptions from their text.
    """

    def __init__(self, dataset: MicroBatchLoader, rows: SharedRows) -> None:
        self._dataset = dataset
        self._rows = rows

    def __getitem__(self, slot: tuple[int, MicroBatchPlan]) -> _FilledSlot | VqdistError:
        first_row, micro_batch = slot
        try:
            return _FilledSlot(first_row, self._dataset.load_into(micro_batch, self._rows.array[first_row:]))
        except VqdistError as error:
            return error


def _kill(workers: Sequence[BaseProcess]) -> None:
    """Kill workers; give up on one that the kernel does not end, for example during I/O on a dead disk."""
    deadline = time.monotonic() + KILL_TIMEOUT_S
    for worker in workers:
        while worker.is_alive() and (remaining_s := deadline - time.monotonic()) > 0:
            # When a worker ends by a signal, torch raises from a signal handler, wherever the main thread is.
            with suppress(RuntimeError):
                worker.kill()
                worker.join(remaining_s)


def _identity(filled: Any) -> Any:
    return filled


def _ignore_signals(_: int) -> None:
    # Schedulers send signals to every process of a job; the rank handles them and ends its workers itself.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
