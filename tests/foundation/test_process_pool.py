"""Worker processes: results in order, errors of the work, dead workers, interrupts and killed parents."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from vqdist.foundation.errors import DataError, StalledError
from vqdist.foundation.process_pool import AHEAD_PER_WORKER, map_in_order


def work(parent: int, item: int) -> tuple[int, bool]:
    """Return the square of an item, and whether another process computed it; the first items take longest."""
    time.sleep(0.05 if item < 2 else 0)
    if item == 50:
        raise DataError.of("item 50", "noise", "a picture")
    if item == 60:
        os.kill(os.getpid(), signal.SIGKILL)
    return item * item, os.getpid() != parent


@pytest.mark.parametrize("workers", [1, 3])
def test_results_are_in_order(workers: int) -> None:
    found = list(map_in_order(partial(work, os.getpid()), range(40), workers=workers))
    assert [square for square, _ in found] == [item * item for item in range(40)]
    assert all(elsewhere == (workers > 1) for _, elsewhere in found)


@pytest.mark.parametrize(("last", "error"), [(55, DataError), (None, StalledError)])
def test_errors_of_the_work_and_dead_workers_are_raised(last: int | None, error: type[Exception]) -> None:
    taken = []

    def items() -> Iterator[int]:
        for item in range(50, last) if last else range(60, 70):
            taken.append(item)
            yield item

    with pytest.raises(error, match="item 50: found noise; expected a picture" if last else "a worker process died"):
        list(map_in_order(partial(work, 0), items(), workers=2))
    assert len(taken) <= 2 * AHEAD_PER_WORKER, "no item is taken after an error"


# A process that is started in the background of a shell ignores SIGINT, and so do its children.
CALLER = """
import signal, time
from vqdist.foundation.process_pool import map_in_order
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for _ in map_in_order(time.sleep, [0.01] * 100_000, workers=2):
        pass
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_the_caller(number: int, tmp_path: Path) -> None:
    from support.processes import find_children, is_alive, wait_until  # imports torch, which no worker needs

    (tmp_path / "caller.py").write_text(CALLER)
    command = [sys.executable, str(tmp_path / "caller.py")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as caller:
        children = wait_until(lambda: found if len(found := find_children(caller.pid)) >= 3 else None)
        time.sleep(0.3)  # also while a worker still imports
        if number == signal.SIGINT:
            os.killpg(caller.pid, number)  # as a terminal does at Ctrl-C
        else:
            caller.send_signal(number)
        _, said = caller.communicate(timeout=60)
    wait_until(lambda: not any(map(is_alive, children)), 30)
    assert said.count("Traceback") == (number == signal.SIGINT), said  # that of the caller
    assert said.count("KeyboardInterrupt") == (number == signal.SIGINT), said
