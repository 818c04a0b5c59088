"""The watch of other ranks: who watches whom, and what it reports; see test_failing_ranks.py for training."""

import os
import signal
import sys
import threading

import pytest
from support import on_ranks, start

from vqdist.distributed.peer_watch import FAN_OUT, find_neighbours, watching_peers
from vqdist.distributed.process_group import init_process_group
from vqdist.foundation import devices


@pytest.mark.parametrize("world_size", [1, 2, 9, 10, 1024])
def test_ranks_watch_each_other_in_a_tree(world_size: int) -> None:
    neighbours = {rank: find_neighbours(rank, world_size) for rank in range(world_size)}
    for rank, others in neighbours.items():
        assert len(others) <= FAN_OUT + 1
        assert all(rank in neighbours[other] for other in others)
    seen, new = {0}, {0}
    rounds = 0
    while new := {other for rank in new for other in neighbours[rank]} - seen:
        seen |= new
        rounds += 1
    assert seen == set(range(world_size))
    assert rounds <= 4


def leave(fault: str) -> list[str]:
    """Enter and leave the watch on each rank; rank 2 leaves by a fault. Return what this rank was told."""
    devices.QUEUING_DEVICES = frozenset({"cpu"})
    ranks, heard, told = init_process_group("cpu"), threading.Event(), list[str]()

    def hear(reason: str) -> None:
        told.append(reason)
        heard.set()

    try:
        with watching_peers(ranks, hear):
            if ranks.rank == 2 and fault == "error":
                raise ValueError("no more samples")
            if ranks.rank == 2 and fault == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if fault:
                assert heard.wait(100)
                raise RuntimeError("told")
    except (ValueError, RuntimeError):
        pass
    return told


@pytest.mark.ranks
def test_a_rank_that_leaves_without_an_error_is_not_reported() -> None:
    assert on_ranks(leave, "", ranks=3) == [[], [], []]


@pytest.mark.ranks
def test_the_reason_of_a_rank_reaches_all_others() -> None:
    reason = "rank 2 ended: no more samples"
    assert on_ranks(leave, "error", ranks=3) == [[reason], [reason], []]


def print_what_was_told() -> int:
    sys.stdout.write("\n".join(leave("kill")))
    return 0


@pytest.mark.ranks
def test_a_killed_rank_is_reported_to_all_others() -> None:
    with start(print_what_was_told, ranks=3) as started:
        ended = started.wait()
    told = "rank 2 ended without a message"
    assert (ended.codes, ended.outputs) == ([0, 0, -9], [told, told, ""]), ended.describe()
