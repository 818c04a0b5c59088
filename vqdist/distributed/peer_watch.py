"""Notice at once that another rank has ended, also while this rank waits for a GPU.

NCCL only queues a collective. If another rank ends, the host waits in the next copy from the GPU until NCCL's timeout,
and NCCL then ends the process without a message. So each rank keeps receives of gloo open from a few others, in
threads: their connections break when a process ends for any reason.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

import torch
import torch.distributed as dist

from vqdist.distributed.process_group import Ranks
from vqdist.foundation.devices import queues_work

FAN_OUT = 8
REASON_BYTES = 1024
TAG = 7919
FOREVER = timedelta(days=365)
SEND_LIMIT = timedelta(seconds=2)


@contextmanager
def watching_peers(ranks: Ranks, on_loss: Callable[[str], None]) -> Iterator[None]:
    """Call a function if another rank ends in this block, or leaves it with an error. Must be entered by all ranks.

    At the end of the block the ranks wait for each other. On a device that does not queue its work nothing is watched:
    there the collectives report a rank that has ended.

    Args:
        on_loss: called in a thread, once at most, with the reason; not after this rank has left with an error itself.
    """
    if ranks.world_size == 1 or not queues_work(ranks.device):
        yield
        return
    watch = _Watch(find_neighbours(ranks.rank, ranks.world_size), on_loss)
    try:
        yield
        ranks.barrier()
        watch.finish()
    except BaseException as error:
        watch.leave(f"rank {ranks.rank} ended: {str(error) or type(error).__name__}")
        raise


def find_neighbours(rank: int, world_size: int) -> list[int]:
    """Return the ranks that a rank watches and is watched by: its parent and children in a tree.

    The end of one rank ends its neighbours, and so on: in a tree all end after few rounds, with few connections each.
    """
    parent = [(rank - 1) // FAN_OUT] if rank > 0 else []
    first = FAN_OUT * rank + 1
    return [*parent, *range(min(first, world_size), min(first + FAN_OUT, world_size))]


class _Watch:
    """A receive from each neighbour that completes when it leaves, and fails when its process ends."""

    def __init__(self, neighbours: list[int], on_loss: Callable[[str], None]) -> None:
        self._neighbours, self._on_loss = neighbours, on_loss
        self._lock, self._is_over = threading.Lock(), False
        self._sent: list[dist.Work] = []
        self._threads = []
        for rank in neighbours:
            message = torch.zeros(REASON_BYTES, dtype=torch.uint8)
            receive = dist.irecv(message, src=rank, tag=TAG)
            self._threads.append(threading.Thread(target=self._wait, args=(rank, receive, message), daemon=True))
        for thread in self._threads:
            thread.start()

    def _wait(self, rank: int, receive: dist.Work, message: torch.Tensor) -> None:
        try:
            receive.wait(FOREVER)
            reason = bytes(message.tolist()).rstrip(b"\0").decode(errors="replace")
        except RuntimeError:
            reason = f"rank {rank} ended without a message"
        if reason and self._claim():
            with suppress(RuntimeError):
                self._send(reason)
            self._on_loss(reason)

    def _claim(self) -> bool:
        """Return whether this is the first error that this rank sees, and take note of it."""
        with self._lock:
            is_first, self._is_over = not self._is_over, True
        return is_first

    def _send(self, text: str) -> None:
        data = text.encode()[:REASON_BYTES].ljust(REASON_BYTES, b"\0")
        message = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        for rank in self._neighbours:
            work = dist.isend(message, dst=rank, tag=TAG)
            assert work is not None
            self._sent.append(work)

    def leave(self, reason: str) -> None:
        """Send the reason of an error to the neighbours, of which some may have ended."""
        if not self._claim():
            return
        with suppress(RuntimeError):
            self._send(reason)
            for work in self._sent:
                work.wait(SEND_LIMIT)

    def finish(self) -> None:
        """Leave without an error, and wait until the neighbours have left."""
        self._send("")
        for work in self._sent:
            work.wait()
        for thread in self._threads:
            thread.join()
