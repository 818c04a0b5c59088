"""Where data are cached on this machine: the cache folder and the memory file system, and their free space."""

import errno
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vqdist.foundation.atomic_files import write_access_problems
from vqdist.foundation.errors import DataError, Problem

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
CACHE_REMEDY = (
    "a folder with free space that you may write to: set data.cache_dir, or XDG_CACHE_HOME in the environment"
)

MEMORY_FOLDER = Path("/dev/shm")
CGROUP_V1 = Path("/sys/fs/cgroup/memory")


def resolve_cache_dir(setting: str | Path | None) -> Path:
    """Return the folder of data.cache_dir; the user's cache folder if it is null.

    Raises:
        DataError: the user has no home folder.
    """
    try:
        if setting is not None:
            return Path(setting).expanduser()
        if sys.platform == "darwin":
            return Path.home() / "Library" / "Caches" / "vqdist"
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vqdist"
    except RuntimeError as error:
        raise DataError.of("data.cache_dir", f"{setting or 'null'}, and no home folder", CACHE_REMEDY) from error


def cache_dir_problems(setting: str | Path | None) -> list[Problem]:
    """Return why the folder of data.cache_dir cannot be written; nothing is created."""
    try:
        found = write_access_problems("data.cache_dir", resolve_cache_dir(setting), folder=True)
    except DataError as error:
        return error.problems
    return [Problem(problem.where, problem.found, CACHE_REMEDY) for problem in found]


@contextmanager
def reporting_cache_errors(folder: Path) -> Iterator[None]:
    """Turn an OSError about the cache folder (full disk, missing permission) into a DataError naming data.cache_dir.

    Other errors of the block, for example those of reading a dataset, pass through.
    """
    try:
        yield
    except OSError as error:
        path = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else None
        if error.errno not in _FULL and (path is None or not (path.is_relative_to(folder) or path in folder.parents)):
            raise
        found = f"{folder}, in which nothing can be written: {error.strerror}"
        raise DataError.of("data.cache_dir", found, CACHE_REMEDY) from error


def nearest_folder(path: Path) -> Path:
    """Return the path if it is a folder, else the nearest parent that is."""
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.is_dir())


def free_bytes(folder: Path) -> int:
    """Return the free bytes of a folder's file system; for the memory file system, at most the free memory."""
    free = shutil.disk_usage(nearest_folder(folder)).free
    return min(free, *_free_memory()) if folder == MEMORY_FOLDER else free


def free_memory_bytes() -> int | None:
    """Return the memory that is free on the machine and within the limits of this process; None if unknown."""
    return min(_free_memory(), default=None)


def _free_memory() -> Iterator[int]:
    """Yield the bytes of memory that the machine, and each control group of this process, has left."""
    for line in _read(Path("/proc/meminfo")).splitlines():
        if line.startswith("MemAvailable:"):
            yield int(line.split()[1]) * 1024
    groups = [line.rpartition("::/")[2] for line in _read(Path("/proc/self/cgroup")).splitlines() if "::/" in line]
    for group in groups:
        own = Path("/sys/fs/cgroup") / group
        for folder in (own, *own.parents):
            limit, used = _read(folder / "memory.max").strip(), _read(folder / "memory.current").strip()
            if limit.isdecimal() and used.isdecimal():
                stat = dict(line.split(maxsplit=1) for line in _read(folder / "memory.stat").splitlines())
                # The kernel can drop cached files of a disk, but not those of the memory file system.
                yield int(limit) - int(used) + int(stat.get("file", 0)) - int(stat.get("shmem", 0))
    limit, used = (_read(CGROUP_V1 / f"memory.{name}_in_bytes").strip() for name in ("limit", "usage"))
    if limit.isdecimal() and used.isdecimal():
        yield int(limit) - int(used)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
