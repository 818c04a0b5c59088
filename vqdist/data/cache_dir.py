"""Where data are cached on this machine: the cache folder and the memory file system, and their free space."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

MEMORY_FOLDER = Path("/dev/shm")
CGROUP_V1 = Path("/sys/fs/cgroup/memory")


def resolve_cache_dir(setting: str | Path | None) -> Path:
    """Return the folder of data.cache_dir; the user's cache folder if it is null."""
    if setting is not None:
        return Path(setting).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "vqdist"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vqdist"


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
