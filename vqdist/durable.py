"""Files that survive a crash: bytes that have reached the disk, and files that are seen whole or not at all."""

import os
from pathlib import Path


def write_synced(path: Path, data: bytes) -> None:
    """Write a file and have its bytes reach the disk."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that a reader, or a crash, sees the old bytes or the new ones and nothing between."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write_synced(partial, data)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    sync(path.parent)


def sync(path: Path) -> None:
    """Have a file, or the names inside a folder, reach the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
