"""Opening a dataset: from a folder, third-party shards or a URL to a folder with a manifest."""

from dataclasses import dataclass
from pathlib import Path

from vqdist.data.cache_dir import reporting_cache_errors, resolve_cache_dir
from vqdist.data.dataset_path import find_folder_problem, find_path_problem
from vqdist.data.remote.download import is_url
from vqdist.data.remote.remote_dataset import fetch_head
from vqdist.data.shards.manifest import MANIFEST, Manifest, load_manifest
from vqdist.data.shards.shard_files import find_shards
from vqdist.data.shards.shard_indexer import IndexSettings
from vqdist.data.shards.third_party import index_third_party_shards, read_notes
from vqdist.foundation.errors import DataError
from vqdist.foundation.progress import print_message


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


def open_dataset(
    path: str | Path,
    cache_dir: str | Path | None = None,
    *,
    image_key: str | None = None,
    skip_unusable: bool = False,
) -> Dataset:
    """Open a dataset. The first process creates a folder in the cache if one is needed; the others wait for it.

    Args:
        path: a dataset, a folder of third-party shards, or the URL of a dataset.
        cache_dir: the cache folder; None: the user's cache folder.
        image_key: for third-party shards: extension of the pictures; None: each sample has one picture.
        skip_unusable: for third-party shards: leave out samples that cannot be used, instead of raising.
    Raises:
        DataError: there is no dataset, or the cache folder is needed and cannot be written.
        FetchError: the URL could not be read after all retries.
    """
    if problem := find_path_problem(path):
        raise DataError([problem])
    folder = Path(path)
    if is_url(path):
        with reporting_cache_errors(cache := resolve_cache_dir(cache_dir)):
            folder = fetch_head(str(path), cache)
    elif folder.is_dir() and not (folder / MANIFEST).exists():
        folder = _index(folder, cache_dir, IndexSettings(image_key, skip_unusable))
    manifest = load_manifest(folder)
    for note in read_notes(manifest):
        print_message(f"{path}: {note}")
    return Dataset(path, folder, manifest)


def _index(folder: Path, cache_dir: str | Path | None, settings: IndexSettings) -> Path:
    """Return the folder of the index of third-party shards; the folder itself if there are none in it."""
    shards = find_shards(folder)
    if problem := find_folder_problem(folder, shards):
        raise DataError([problem])
    if not shards.tars:
        return folder
    with reporting_cache_errors(cache := resolve_cache_dir(cache_dir)):
        return index_third_party_shards(folder, shards.tars, cache, settings)
