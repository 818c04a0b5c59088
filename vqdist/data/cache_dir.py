"""Where on this machine copies of data may lie: the cache folder, the memory file system, and their free room."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

MEMORY_FOLDER = Path("/dev/shm")
CGROUP_V1 = Path("/sys/fs/cgroup/memory")


def resolve_cache_dir(setting: str | None) -> Path:
    """Return data.cache_dir, or the user's cache folder where it is null."""
    if setting is not None:
        return Path(setting).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "vqdist"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vqdist"


def nearest_folder(path: Path) -> Path:
    """Return the path if it is a folder, else the nearest parent that is."""
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.is_dir())


def free_bytes(folder: Path) -> int:
    """Return the bytes that may still be written below a folder; of memory, only what the machine can spare."""
    free = shutil.disk_usage(nearest_folder(folder)).free
    return min(free, *_spare_memory()) if folder == MEMORY_FOLDER else free


def free_memory_bytes() -> int | None:
    """Return the memory that is free on the machine and within the limits of this process; None if unknown."""
    return min(_spare_memory(), default=None)


def _spare_memory() -> Iterator[int]:
    """Yield the memory left in the machine and under each limit that this process is held to."""
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
                # Copies of files on disk make way when memory is asked for; those in memory alone do not.
                yield int(limit) - int(used) + int(stat.get("file", 0)) - int(stat.get("shmem", 0))
    limit, used = (_read(CGROUP_V1 / f"memory.{name}_in_bytes").strip() for name in ("limit", "usage"))
    if limit.isdecimal() and used.isdecimal():
        yield int(limit) - int(used)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
