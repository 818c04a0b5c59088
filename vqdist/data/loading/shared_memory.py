"""Arrays in memory that processes share and that need no clean-up."""

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
    """An array whose memory is shared with forked processes, and with processes that receive it by pickling.

    Initially it is zero. Memory is allocated only where it is written.

    Args:
        rows: number of rows.
        shape, dtype: shape and type of one row.
        path: file through which unrelated processes share the memory until it is unlinked; None: anonymous
            memory, which ends with the last process that has it open.

    Attributes:
        array: (rows, *shape).
    """

    def __init__(self, rows: int, shape: tuple[int, ...], dtype: npt.DTypeLike, *, path: Path | None = None) -> None:
        self._layout = (max(rows, 1), *shape), np.dtype(dtype)
        self._handle = _open_anonymous() if path is None else os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(self._handle, self.nbytes)
        self._map()

    def write(self, row: int, data: bytes | Array) -> None:
        """Write the first bytes of a row.

        The write is a system call, which is a memory barrier on every architecture: other processes see earlier
        writes before this one.

        Raises:
            OSError: the memory is full. (A store into `array` would end the process by a signal.)
        """
        view = data if isinstance(data, bytes) else data.data.cast("B")
        offset = row * (self.nbytes // len(self.array))
        if os.pwrite(self._handle, view, offset) != len(view):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fence(self) -> None:
        """Memory barrier: later reads do not return older data than earlier reads."""
        os.pread(self._handle, 1, 0)

    @property
    def nbytes(self) -> int:
        """Size of the array in bytes, at least 1."""
        shape, dtype = self._layout
        return max(math.prod(shape) * dtype.itemsize, 1)

    def _map(self) -> None:
        shape, dtype = self._layout
        memory = mmap.mmap(self._handle, self.nbytes)
        self.array: Array = np.frombuffer(memory, dtype, count=math.prod(shape)).reshape(shape)

    def __getstate__(self) -> dict[str, Any]:
        return {"layout": self._layout, "handle": DupFd(self._handle)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._layout, self._handle = state["layout"], state["handle"].detach()
        self._map()

    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            os.close(self._handle)


def _open_anonymous() -> int:
    if hasattr(os, "memfd_create"):  # Linux; not bounded by the size of a container's /dev/shm
        return os.memfd_create("vqdist-rows", os.MFD_CLOEXEC)
    handle, name = tempfile.mkstemp(prefix="vqdist-rows-")
    Path(name).unlink()
    return handle
