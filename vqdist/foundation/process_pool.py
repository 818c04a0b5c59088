"""Ordered map over worker processes, for work that one core does too slowly."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Any, TypeVar

from vqdist.foundation.errors import StalledError

T = TypeVar("T")
R = TypeVar("R")

AHEAD_PER_WORKER = 2  # items that are computed or queued, for each worker

_work: Callable[[Any], Any] | None = None  # of a worker process


def map_in_order(work: Callable[[T], R], items: Iterable[T], *, workers: int) -> Iterator[R]:
    """Yield the result for each item, in the order of the items.

    Workers start as fresh interpreters (spawn), so the caller may have threads. They ignore Ctrl-C, which ends the
    caller, and end when it ends, however it ends. After an exception in the caller no further item is started.

    Args:
        work: item -> result. With workers it is pickled once per worker, and items and results are pickled.
        workers: number of processes; 1 computes in this process.
    Raises:
        StalledError: a worker died.
    """
    if workers <= 1:
        yield from map(work, items)
        return
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start_worker, (work,))
    try:
        yield from _map_in_pool(pool, iter(items), workers * AHEAD_PER_WORKER)
    except BrokenProcessPool as error:
        found = "a worker process died, perhaps for lack of memory; try fewer workers"
        raise StalledError(found) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _map_in_pool(pool: ProcessPoolExecutor, items: Iterator[T], ahead: int) -> Iterator[Any]:
    queued: deque[Future[Any]] = deque()
    while True:
        _submit(pool, queued, islice(items, ahead - len(queued)))
        if not queued:
            return
        yield queued.popleft().result()


def _submit(pool: ProcessPoolExecutor, queued: deque[Future[Any]], items: Iterator[Any]) -> None:
    """Queue items. Workers start here and inherit the blocked signal; one for this process arrives afterwards."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        for item in items:
            queued.append(pool.submit(_call, item))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _start_worker(work: Callable[[Any], Any]) -> None:
    global _work
    _work = work
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # A worker holds both ends of its queue, so that it would wait forever for a parent that was killed.
    parent = multiprocessing.parent_process()
    assert parent is not None, "a worker has a parent"
    parent.join()
    os._exit(1)


def _call(item: Any) -> Any:
    assert _work is not None, "the worker has started"
    return _work(item)
