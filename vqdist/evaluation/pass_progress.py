"""Progress of a pass over a split or over samples, shared by the ranks."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from vqdist.distributed.process_group import Ranks
from vqdist.foundation.progress import ProgressBar

B = TypeVar("B")


def show_pass(
    batches: Iterable[B], total: int, ranks: Ranks, *, label: str, unit: str = "slices", size: Callable[[B], int]
) -> Iterator[B]:
    """Yield the batches of this rank and show the progress of all ranks, estimated from that of rank 0.

    Args:
        total: amount of work of all ranks, in `unit`.
        size: amount of work in a batch.
    """
    with ProgressBar(total, unit=unit, label=label) as shown:
        for batch in batches:
            yield batch
            shown.advance(min(size(batch) * ranks.world_size, total - shown.done))
        shown.advance(total - shown.done)
