"""Find the shards below a folder, and those that are compressed."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vqdist.data.shards.tar_members import is_hidden
from vqdist.data.sources.file_names import natural_key
from vqdist.foundation.errors import DataError

_COMPRESSED = re.compile(r"\.(tar\.(gz|bz2|xz|zst|lz4|lzma|z)|tgz|tbz2?|txz|tzst)$", re.IGNORECASE)


@dataclass(frozen=True)
class ShardFiles:
    """The shards below a folder, in natural order; hidden files and folders are passed over."""

    tars: tuple[Path, ...]
    compressed: tuple[Path, ...]


def find_shards(folder: Path) -> ShardFiles:
    """Return the shards below a folder. Links are followed, but each folder is read once.

    Raises:
        DataError: a folder cannot be read.
    """
    files = sorted(_walk(folder), key=lambda path: natural_key(path.as_posix()))
    return ShardFiles(
        tuple(path for path in files if path.suffix.lower() == ".tar"),
        tuple(path for path in files if is_compressed(path.name)),
    )


def is_compressed(name: str) -> bool:
    """Whether a file name is that of a compressed tar."""
    return bool(_COMPRESSED.search(name))


def _walk(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder; what is only reached by links comes last, so that its paths have no link."""

    def refuse(error: OSError) -> None:
        raise DataError.of(str(error.filename), error.strerror or str(error), "a folder that can be read")

    root = os.path.realpath(folder)
    queue, seen = [folder], set[str]()
    while queue:
        for where, folders, names in os.walk(queue.pop(0), onerror=refuse):
            real = os.path.realpath(where)
            if real in seen or Path(real) in Path(root).parents:  # a folder above the root would be a circle
                folders.clear()
                continue
            seen.add(real)
            folders[:] = sorted(name for name in folders if not is_hidden(name))
            queue += [Path(where, name) for name in folders if os.path.islink(os.path.join(where, name))]
            yield from (Path(where, name) for name in names if not is_hidden(name))
