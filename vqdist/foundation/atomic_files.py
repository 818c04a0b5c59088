"""Files that survive a crash: bytes that have reached the disk, and files that are seen whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vqdist.foundation.errors import Problem, StorageError


def write_access_problems(where: str, path: str | Path, *, folder: bool) -> list[Problem]:
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
def reporting_storage_errors(path: Path) -> Iterator[None]:
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


def partial_path(path: Path) -> Path:
    """Return where this process writes what is to be a file or folder at a path, before it is renamed."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def remove_partials(folder: Path, name: str = "*") -> None:
    """Remove what killed processes left in a folder while they wrote a file or folder of that name.

    Args:
        name: a glob pattern of names to be.
    """
    for partial in folder.glob(f".{name}.*.tmp"):
        if partial.is_dir() and not partial.is_symlink():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink(missing_ok=True)


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that a reader, or a crash, sees the old bytes or the new ones and nothing between."""
    partial = partial_path(path)
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
