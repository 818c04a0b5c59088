"""Arrays in memory that a process shares with those it starts, and whose place nobody has to clean up."""

import errno
import math
import mmap
import os
import tempfile
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class SharedRows:
    """Rows of one shape and type, shared by fork or by pickling to a process that is being started.

    It is zero at first, and takes room only where it was written.

    Args:
        path: a file by which processes that are no kin find each other, until it is unlinked; None: memory
            without a name, of which a killed process leaves nothing behind.

    Attributes:
        array: (rows, *shape).
    """

    def __init__(self, rows: int, shape: tuple[int, ...], dtype: npt.DTypeLike, *, path: Path | None = None) -> None:
        self._layout = (max(rows, 1), *shape), np.dtype(dtype)
        self._handle = _open_nameless() if path is None else os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(self._handle, self.nbytes)
        self._attach()

    def write(self, row: int, data: bytes | Array) -> None:
        """Write the beginning of a row. Unlike a store into the array it raises OSError where there is no room.

        What was written before is seen before: a system call is a barrier on every kind of processor.
        """
        view = data if isinstance(data, bytes) else data.data.cast("B")
        offset = row * (self.nbytes // len(self.array))
        if os.pwrite(self._handle, view, offset) != len(view):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fence(self) -> None:
        """Have what is read from now on be at least as new as what was read before."""
        os.pread(self._handle, 1, 0)

    @property
    def nbytes(self) -> int:
        shape, dtype = self._layout
        return max(math.prod(shape) * dtype.itemsize, 1)

    def _attach(self) -> None:
        shape, dtype = self._layout
        memory = mmap.mmap(self._handle, self.nbytes)
        self.array: Array = np.frombuffer(memory, dtype, count=math.prod(shape)).reshape(shape)

    def __getstate__(self) -> dict[str, Any]:
        return {"layout": self._layout, "handle": DupFd(self._handle)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._layout, self._handle = state["layout"], state["handle"].detach()
        self._attach()

    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            os.close(self._handle)


def _open_nameless() -> int:
    if hasattr(os, "memfd_create"):  # Linux; unlike /dev/shm it has no size of its own in a container
        return os.memfd_create("vqdist-rows", os.MFD_CLOEXEC)
    handle, name = tempfile.mkstemp(prefix="vqdist-rows-")
    Path(name).unlink()
    return handle
