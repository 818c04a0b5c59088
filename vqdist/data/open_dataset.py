"""Opening a dataset: from a folder, third-party shards or a URL to a folder with a manifest."""

from dataclasses import dataclass
from pathlib import Path

from vqdist.data.cache_dir import reporting_cache_errors, resolve_cache_dir
from vqdist.data.remote.download import is_url
from vqdist.data.remote.remote_dataset import fetch_head
from vqdist.data.shards.manifest import MANIFEST, Manifest, load_manifest
from vqdist.data.shards.third_party import find_tars, index_third_party_shards


@dataclass(frozen=True)
class Dataset:
    """An opened dataset.

    Attributes:
        path: path or URL that the user gave; names the dataset in errors.
        folder: folder of the manifest on this machine: the path itself; for third-party shards, the folder of their
            index; for a URL, a folder in the cache, into which a `Prefetcher` downloads shards while they are read.
        manifest: manifest of the dataset.
    """

    path: str | Path
    folder: Path
    manifest: Manifest


def open_dataset(path: str | Path, cache_dir: str | Path | None = None) -> Dataset:
    """Open a dataset. The first process creates a folder in the cache if one is needed; the others wait for it.

    Args:
        path: a dataset, a folder of third-party shards, or the URL of a dataset.
        cache_dir: the cache folder; None: the user's cache folder.
    Raises:
        DataError: there is no dataset, or the cache folder is needed and cannot be written.
        FetchError: the URL could not be read after all retries.
    """
    folder = Path(path)
    if is_url(path):
        with reporting_cache_errors(cache := resolve_cache_dir(cache_dir)):
            folder = fetch_head(str(path), cache)
    elif folder.is_dir() and not (folder / MANIFEST).exists() and (tars := find_tars(folder)):
        with reporting_cache_errors(cache := resolve_cache_dir(cache_dir)):
            folder = index_third_party_shards(folder, tars, cache)
    return Dataset(path, folder, load_manifest(folder))
