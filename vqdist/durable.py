"""Files that survive a crash: bytes that have reached the disk, and files that are seen whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vqdist.errors import Problem, StorageError


def write_problems(where: str, path: str | Path, *, folder: bool) -> list[Problem]:
    """Return why a folder, or a file, cannot be written at a path; nothing is made or changed.

    Args:
        where: what to call it in a problem.
        path: what is not there yet would be made in the first folder above it that is.
    """
    target = Path(os.path.realpath(path))
    place = next(place for place in (target, *target.parents) if os.path.lexists(place))
    makes_inside = folder or place != target
    if place.is_symlink():  # the real path has a link only where links go in a circle
        found = "which is a link to itself"
    elif place.is_dir() != makes_inside:
        found = "which is a file" if makes_inside else "which is a folder"
    elif not os.access(place, os.R_OK | os.W_OK | os.X_OK if makes_inside else os.W_OK):
        found = "which you may not write"
    else:
        return []
    return [Problem(where, f"{place}, {found}", "a folder to write to" if folder else "a file to write")]


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Say in our words that a path cannot be written: a full disk, no leave, a mount that is gone.

    Raises:
        StorageError: instead of the OSError.
    """
    try:
        yield
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error}") from error


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
