"""Opening a dataset: from a folder, third-party shards or a URL to a folder with a manifest."""

from pathlib import Path

from vqdist.data.cache_dir import resolve_cache_dir
from vqdist.data.remote.download import is_url
from vqdist.data.remote.remote_dataset import fetch_head
from vqdist.data.shards.manifest import MANIFEST, Manifest, load_manifest
from vqdist.data.shards.third_party import find_tars, index_third_party_shards


def open_dataset(path: str | Path, cache_dir: str | Path | None = None) -> tuple[Path, Manifest]:
    """Return the folder of a dataset on this machine and its manifest.

    The folder is `path` itself; for third-party shards, their index in the cache folder; for a URL, a folder in the
    cache with the manifest but without shards, which a `Prefetcher` downloads while they are read. The first
    process creates a folder in the cache and the others wait for it.

    Args:
        path: a dataset, a folder of third-party shards, or the URL of a dataset.
        cache_dir: the cache folder; None: the user's cache folder.
    Raises:
        DataError: there is no dataset.
        FetchError: the URL could not be read after all retries.
    """
    cache = resolve_cache_dir(cache_dir)
    folder = Path(path)
    if is_url(path):
        folder = fetch_head(str(path), cache)
    elif folder.is_dir() and not (folder / MANIFEST).exists() and (tars := find_tars(folder)):
        folder = index_third_party_shards(folder, tars, cache)
    return folder, load_manifest(folder)
