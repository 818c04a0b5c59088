"""Atomic writing of files and folders: readers never see partial content, even after a crash.

Everything is written to a temporary path next to its destination, synced, and renamed. The names:

    .NAME.tmp-1a2b3c4d    a file or folder that is being written
    .NAME.tmp-locked      a file that one process at a time writes, under a lock
    .NAME.old             the previous folder, between the two renames that replace it
"""

import fnmatch
import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO

from vqdist.foundation.errors import DataError, Problem, StorageError
from vqdist.foundation.file_locks import lock_file

# The second and third alternatives are the names that earlier versions used: for files, and for checkpoints.
_TEMPORARY = re.compile(r"\.(.+)\.tmp-[0-9a-f]{8}|\.(.+)\.\d+\.tmp|(step-\d+)\.[0-9a-f]{8}\.tmp")
_ASIDE = re.compile(r"\.(.+)\.old|(step-\d+)\.old")
# Names that earlier versions used while they wrote a dataset.
_OLD_DATASET = re.compile(r"(.+)\.(?:tmp|old)-\d+")
_LEFTOVERS = (_TEMPORARY, _ASIDE, _OLD_DATASET)


def write_atomic(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write a file so that a reader, or a crash, sees the old bytes or the new ones and nothing between.

    Args:
        path: the file to write.
        data: its content.
        durable: sync file and folder. Without, a power failure may lose the file.
    """
    temporary = _temporary_path(path)
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    if durable:
        sync(path.parent)


def write_atomic_json(path: Path, value: object, *, durable: bool = True) -> None:
    """Write a value as a line of JSON; see `write_atomic`."""
    write_atomic(path, f"{json.dumps(value)}\n".encode(), durable=durable)


def write_folder(path: Path, files: Mapping[str, bytes], *, check: Callable[[], None] | None = None) -> None:
    """Write a folder of files so that a reader, or a crash, sees the old folder or the new one.

    Args:
        path: the folder.
        files: name of each file, which may contain subfolders, and its content.
        check: as for `atomic_folder`.
    """
    with atomic_folder(path, check=check) as folder:
        for name, data in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)


@contextmanager
def atomic_folder(path: Path, *, check: Callable[[], None] | None = None) -> Iterator[Path]:
    """Yield an empty temporary folder that becomes `path`, or replaces it, if the block raises nothing.

    An existing folder is moved to `aside_path(path)` before the new one takes its name, so a reader that finds
    nothing at `path` finds the old folder there. On an exception the old folder stays or is moved back.

    Args:
        path: the folder to write.
        check: called after everything is synced and before the rename; raises if `path` must not be replaced.
    """
    temporary, aside = _temporary_path(path), aside_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary.mkdir()
    try:
        yield temporary
        _sync_tree(temporary)
        if check is not None:
            check()
        if path.exists():
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
        temporary.rename(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        if aside.exists() and not path.exists():
            aside.rename(path)
        raise
    sync(path.parent)
    shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def output_folder(out: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield an empty temporary folder that becomes OUT, checked by `check_output` before and after the block.

    Raises:
        DataError: OUT must not be written or replaced.
    """
    target = Path(os.path.realpath(out))
    check = partial(check_output, target, overwrite=overwrite)
    check()
    with atomic_folder(target, check=check) as folder:
        yield folder


@contextmanager
def locked_file(path: Path) -> Iterator[BinaryIO | None]:
    """Yield a temporary file that only this process writes and that becomes `path` if the block raises nothing.

    The lock ends with its process. The next process writes the file again from its start.

    Yields:
        The file, which may have content; None if `path` exists or another process holds the lock.
    """
    path.with_name(f"{path.name}.part").unlink(missing_ok=True)  # left by a killed process of an earlier version
    temporary = path.with_name(f".{path.name}.tmp-locked")
    with open(temporary, "ab") as file:
        try:
            lock_file(file, wait=False)
            # The process that held the lock before may have renamed the file between open and lock.
            locked = os.path.samestat(os.fstat(file.fileno()), os.stat(temporary))
        except (BlockingIOError, FileNotFoundError):
            locked = False
        if locked and path.exists():
            temporary.unlink()
            locked = False
        if not locked:
            yield None
            return
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            temporary.unlink()
            raise
        temporary.replace(path)


def aside_path(path: Path) -> Path:
    """Return where the previous folder is while `atomic_folder` replaces it."""
    return path.with_name(f".{path.name}.old")


def _temporary_path(path: Path) -> Path:
    # Random, because processes on two nodes or in two containers can have the same id.
    return path.with_name(f".{path.name}.tmp-{uuid.uuid4().hex[:8]}")


def clear_leftovers(folder: Path, name: str = "*") -> None:
    """Remove the temporary files and folders of killed processes; move back folders whose replacement is missing.

    Call it only where no other process may write.

    Args:
        folder: where the files and folders were to be.
        name: glob pattern of their names.
    """
    for leftover in list(folder.iterdir()) if folder.is_dir() else []:
        temporary, aside = _TEMPORARY.fullmatch(leftover.name), _ASIDE.fullmatch(leftover.name)
        match = temporary or aside
        if match is None or not fnmatch.fnmatchcase(target := next(filter(None, match.groups())), name):
            continue
        if aside and not (folder / target).exists():
            leftover.rename(folder / target)
        elif leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def is_leftover(path: Path) -> bool:
    """Whether the name is that of a temporary file or folder, of this or an earlier version."""
    return any(pattern.fullmatch(path.name) for pattern in _LEFTOVERS)


def find_leftovers(out: str | Path) -> list[Path]:
    """Return the temporary folders of OUT: those of killed commands and those being written now."""
    target = Path(os.path.realpath(out))
    places = sorted(target.parent.iterdir()) if target.parent.is_dir() else []
    matches = ((place, pattern.fullmatch(place.name)) for place in places for pattern in _LEFTOVERS)
    return [place for place, match in matches if match and target.name in match.groups()]


def check_output(out: str | Path, *, overwrite: bool = False) -> None:
    """Check that a command may write a folder at OUT.

    Args:
        out: missing or empty, unless overwrite is set.
        overwrite: replace the folder. One that contains the home or the working directory is never replaced.
    Raises:
        DataError: it may not; explains why.
    """
    if problems := find_output_problems(str(out), out, overwrite=overwrite):
        raise DataError(problems)


def find_output_problems(where: str, out: str | Path, *, overwrite: bool = False) -> list[Problem]:
    """Return why a command may not write a folder at OUT; see `check_output`.

    Args:
        where: name of the path in a problem.
    """
    target = Path(os.path.realpath(out))
    for place in (target, target.parent):  # the temporary folder is written in the parent
        if problems := write_access_problems(where, place, folder=True):
            return problems
    if not target.is_dir() or not any(target.iterdir()):
        return []
    if not overwrite:
        return [Problem(where, "a folder that is not empty", "an empty or new one, or --overwrite")]
    if target == Path.home() or target in (Path.cwd(), *Path.cwd().parents):
        found = "a folder that contains the home or the working directory"
        return [Problem(where, found, "a folder that may be replaced as a whole")]
    return []


def write_access_problems(where: str, path: str | Path, *, folder: bool) -> list[Problem]:
    """Return why a folder, or a file, cannot be written at a path; nothing is created or changed.

    Args:
        where: name of the path in a problem, for example the flag that sets it.
        path: it may be missing, and its parents too: then the first parent that exists must be writable.
        folder: a folder is to be written, not a file.
    """
    target = Path(os.path.realpath(path))
    place = next(place for place in (target, *target.parents) if os.path.lexists(place))
    creates_inside = folder or place != target
    if place.is_symlink():  # a real path has a link only where links form a circle
        found = "which is a link to itself"
    elif place.is_dir() != creates_inside:
        found = "which is a file" if creates_inside else "which is a folder"
    elif not os.access(place, os.R_OK | os.W_OK | os.X_OK if creates_inside else os.W_OK):
        found = "which you may not write"
    else:
        return []
    return [Problem(where, f"{place}, {found}", "a folder to write to" if folder else "a file to write")]


@contextmanager
def reporting_storage_errors(path: Path) -> Iterator[None]:
    """Turn an OSError of the block (full disk, missing permission, unmounted file system) into a StorageError."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error}") from error


def sync(path: Path) -> None:
    """Flush a file, or the entries of a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_tree(folder: Path) -> None:
    for parent, _, names in os.walk(folder):
        for name in names:
            sync(Path(parent, name))
        sync(Path(parent))
