"""A folder that appears whole or not at all: written under a temporary name beside its place, then renamed."""

import glob
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vqdist.foundation.atomic_files import sync, write_access_problems
from vqdist.foundation.errors import DataError


@contextmanager
def staged_folder(out: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield an empty folder `OUT.tmp-PID` that takes the place of OUT when the block ends well.

    All files are synced before the rename and the parent after it. On an exception the temporary folder
    is removed; a kill leaves it behind under its telling name, which no reader takes for a data set.

    Args:
        out: the folder to be; missing or empty, unless overwrite is set.
        overwrite: replace what lies there. Folders that hold the working directory are never replaced.
    Raises:
        DataError: OUT is in the way.
    """
    target = Path(os.path.realpath(out))
    check_output(target, overwrite=overwrite)
    staging = target.with_name(f"{target.name}.tmp-{os.getpid()}")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    try:
        yield staging
        sync_tree(staging)
        check_output(target, overwrite=overwrite)
        _replace(staging, target)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def check_output(out: str | Path, *, overwrite: bool = False) -> None:
    """Raise DataError unless a folder may be written there."""
    target = Path(os.path.realpath(out))
    for place in (target, target.parent):  # it is written beside its place and renamed
        if problems := write_access_problems(str(out), place, folder=True):
            raise DataError(problems)
    if not target.is_dir() or not any(target.iterdir()):
        return
    if not overwrite:
        raise DataError.of(str(out), "a folder that is not empty", "an empty or new one, or --overwrite")
    if target == Path.home() or target in (Path.cwd(), *Path.cwd().parents):
        raise DataError.of(str(out), "a folder that holds your own", "a folder that may be replaced as a whole")


def find_leftovers(out: str | Path) -> list[Path]:
    """Return the temporary folders of OUT that killed commands left, or that others are writing now."""
    target = Path(os.path.realpath(out))
    places = [*target.parent.glob(f"{glob.escape(target.name)}.*")] if target.parent.is_dir() else []
    return sorted(place for place in places if re.fullmatch(r"\.(tmp|old)-\d+", place.name[len(target.name) :]))


def _replace(staging: Path, target: Path) -> None:
    """Rename staging to target; what lay there goes aside first, and comes back if the rename fails."""
    old = target.with_name(f"{target.name}.old-{os.getpid()}")
    replaces = target.is_dir() and any(target.iterdir())
    if replaces:
        os.rename(target, old)
    try:
        os.rename(staging, target)
    except OSError:
        if replaces:
            os.rename(old, target)
        raise
    sync(target.parent)
    if replaces:
        shutil.rmtree(old)


def sync_tree(folder: Path) -> None:
    """Have every file and folder below reach the disk."""
    for where, _, names in os.walk(folder):
        for name in names:
            sync(Path(where, name))
        sync(Path(where))
