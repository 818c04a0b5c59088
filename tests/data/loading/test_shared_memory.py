"""Shared memory: between forked and spawned processes, through a file, and an error when it is full."""

import errno
import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest

from vqdist.data.loading.shared_memory import SharedRows

# Since Python 3.12 every fork beside a thread is warned of; torch has threads.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


def write_rows(rows: SharedRows) -> None:
    rows.array[1] = 7
    rows.write(2, np.full((2, 3), 8, np.int32))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_child_process_writes_to_the_same_memory(method: str) -> None:
    rows = SharedRows(4, (2, 3), np.int32)
    process = multiprocessing.get_context(method).Process(target=write_rows, args=(rows,))
    process.start()
    process.join()
    assert process.exitcode == 0
    rows.fence()
    assert rows.array[:, 0, 0].tolist() == [0, 7, 8, 0]
    assert rows.array.shape == (4, 2, 3)


def test_a_file_is_shared_by_its_path_and_survives_its_removal(tmp_path: Path) -> None:
    one, other = (SharedRows(3, (5,), np.uint8, path=tmp_path / "rows") for _ in range(2))
    (tmp_path / "rows").unlink()
    one.array[2] = 9
    assert other.array[2].tolist() == [9] * 5


def test_handles_are_closed() -> None:
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else None
    for _ in range(10):
        SharedRows(3, (5,), np.uint8)
    if before is not None:
        assert len(os.listdir("/proc/self/fd")) == before


def test_full_memory_is_an_error_and_no_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = SharedRows(3, (5,), np.uint8)
    monkeypatch.setattr(os, "pwrite", lambda *_: 2)
    with pytest.raises(OSError) as caught:
        rows.write(0, b"12345")
    assert caught.value.errno == errno.ENOSPC


def test_an_array_without_rows() -> None:
    assert SharedRows(0, (5,), np.uint8).array.shape == (1, 5)
