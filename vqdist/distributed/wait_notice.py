"""A message of a rank that waits for the other ranks of its job."""

import os
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from vqdist.foundation.progress import print_from_any_rank

ANNOUNCE_AFTER_S = 10.0  # ranks of one job start within seconds of each other


@contextmanager
def announcing_wait(text: str, *, shown: bool = True, after_s: float = ANNOUNCE_AFTER_S) -> Iterator[None]:
    """Print a message, from every rank, if the body takes longer than some seconds."""
    timer = threading.Timer(after_s, print_from_any_rank, (text,))
    timer.daemon = True
    if shown:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


def describe_meeting(world_size: int, environ: Mapping[str, str] = os.environ) -> str:
    """Return what a rank that joins the process group waits for."""
    rank, address = (environ.get(name, "?") for name in ("RANK", "MASTER_ADDR"))
    where = f"{address}:{environ.get('MASTER_PORT', '?')} (MASTER_ADDR, MASTER_PORT)"
    if rank == "0":
        return f"rank 0 on {socket.gethostname()}: waiting for all {world_size:,} ranks to connect to {where}"
    return f"rank {rank} on {socket.gethostname()}: waiting for rank 0 and all {world_size:,} ranks at {where}"
