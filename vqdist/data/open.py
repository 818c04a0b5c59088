"""From what data.path says to a folder on this machine that a reader can be opened on."""

import fcntl
from pathlib import Path

from vqdist.data.cache_dir import resolve_cache_dir
from vqdist.data.remote.download import is_url
from vqdist.data.remote.remote_dataset import fetch_head
from vqdist.data.shards.manifest import MANIFEST, Manifest, load_manifest
from vqdist.data.shards.third_party import find_or_index_dataset


def open_dataset(path: str | Path) -> tuple[Path, Manifest]:
    """Return folder and manifest of a data set on this machine; foreign shards are indexed into the user's cache.

    Raises:
        DataError: no data set there.
    """
    folder = find_or_index(Path(path), resolve_cache_dir(None))
    return folder, load_manifest(folder)


def locate_dataset(path: str, cache_dir: Path) -> Path:
    """Return the folder of a data set: the path itself, or what stands for it in the cache folder.

    That is the index of shards without a manifest, or the head of a data set at an address, whose shards come
    while they are read. What is not there yet is made by the first process to come; the others wait for it.

    Raises:
        DataError: no data set there; FetchError: an address that did not answer.
    """
    return fetch_head(path, cache_dir) if is_url(path) else find_or_index(Path(path), cache_dir)


def find_or_index(path: Path, cache_dir: Path) -> Path:
    """Return the folder of a data set on this machine, of shards without a manifest that of their index."""
    if (path / MANIFEST).exists() or not path.is_dir():
        return find_or_index_dataset(path, cache_dir)
    cache_dir.mkdir(parents=True, exist_ok=True)
    with open(cache_dir / ".lock", "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return find_or_index_dataset(path, cache_dir)
