"""Share the batches of a pass among the ranks; the results do not depend on the number of ranks.

Every function is collective: all ranks must call it. A UserError on one rank is raised on all ranks, so that no rank
waits in a collective for one that has left.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

import torch

from vqdist.distributed.process_group import Ranks
from vqdist.foundation.errors import UserError

B = TypeVar("B")
T = TypeVar("T")


def gather_results(ranks: Ranks, work: Callable[[], T]) -> list[T]:
    """Call a function on each rank and return the results of all ranks, in rank order."""
    outcome: T | UserError
    try:
        outcome = work()
    except UserError as error:
        outcome = type(error)(error.problems)  # without the traceback, whose frames may hold loader workers
    results: list[T] = []
    for found in ranks.gather_objects(outcome):
        if isinstance(found, UserError):
            found.extent = "all"
            raise found
        results.append(found)
    return results


def run_on_main(ranks: Ranks, work: Callable[[], T]) -> T:
    """Call a function on rank 0 and return its result on every rank.

    Models are read this way: a training run may replace a model at any time, and all ranks must use the same one.
    """
    return gather_results(ranks, lambda: [work()] if ranks.is_main else [])[0][0]


def map_batches(ranks: Ranks, batches: Iterable[B], work: Callable[[B], T]) -> list[T]:
    """Return the result for each batch of a pass, in batch order, on every rank.

    Args:
        batches: the batches of this rank; batch b of the pass goes to rank b % world_size.
        work: batch -> result, which must be picklable.
    """

    def work_on_share() -> list[T]:
        with torch.inference_mode():
            return [work(batch) for batch in batches]

    shares = gather_results(ranks, work_on_share)
    total = sum(map(len, shares))
    return [shares[number % ranks.world_size][number // ranks.world_size] for number in range(total)]


def map_in_rounds(ranks: Ranks, batches: Iterable[B], work: Callable[[B], T]) -> Iterator[T]:
    """Yield the same results as `map_batches`, but gather them after each batch: memory holds one result per rank.

    Every rank must take every item.
    """
    left = iter(batches)

    def work_on_next() -> list[T]:
        with torch.inference_mode():
            return [work(batch) for batch in islice(left, 1)]

    while results := [result for share in gather_results(ranks, work_on_next) for result in share]:
        yield from results
        if len(results) < ranks.world_size:
            return
