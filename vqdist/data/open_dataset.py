"""Opening a dataset: from a folder, third-party shards or a URL to a folder with a manifest."""

from dataclasses import dataclass
from pathlib import Path

from vqdist.data.cache_dir import reporting_cache_errors, resolve_cache_dir
from vqdist.data.dataset_path import find_folder_problem, find_path_problem
from vqdist.data.remote.download import is_url, restore_url
from vqdist.data.remote.remote_dataset import fetch_head
from vqdist.data.remote.third_party_download import download_shards
from vqdist.data.shards.manifest import MANIFEST, Manifest, load_manifest
from vqdist.data.shards.shard_files import find_shards
from vqdist.data.shards.shard_indexer import IndexSettings
from vqdist.data.shards.tar_lists import list_local_tars, names_tars
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
    cache_gib: float = 16.0,
) -> Dataset:
    """Open a dataset. The first process creates a folder in the cache if one is needed; the others wait for it.

    Args:
        path: a dataset, or its URL; a folder of third-party shards; or some of these shards: a tar, or a pattern of
            tars, as a path or a URL.
        cache_dir: the cache folder; None: the user's cache folder.
        image_key: for third-party shards: extension of the pictures; None: each sample has one picture.
        skip_unusable: for third-party shards: leave out samples that cannot be used, instead of raising.
        cache_gib: limit of the third-party shards that are downloaded.
    Raises:
        DataError: there is no dataset, or the cache folder is needed and cannot be written.
        FetchError: the URL could not be read after all retries.
    """
    path = restore_url(path)
    if problem := find_path_problem(path):
        raise DataError([problem])
    folder, settings = Path(path), IndexSettings(image_key, skip_unusable)
    if names_tars(path) and not folder.is_dir():
        folder = _index_tars(str(path), cache_dir, settings, cache_gib=cache_gib)
    elif is_url(path):
        with reporting_cache_errors(cache := resolve_cache_dir(cache_dir)):
            folder = fetch_head(str(path), cache)
    elif folder.is_dir() and not (folder / MANIFEST).exists():
        folder = _index(folder, cache_dir, settings)
    manifest = load_manifest(folder)
    for note in read_notes(manifest):
        print_message(f"{path}: {note}")
    return Dataset(path, folder, manifest)


def _index_tars(path: str, cache_dir: str | Path | None, settings: IndexSettings, *, cache_gib: float) -> Path:
    """Return the folder of the index of single third-party shards; those at URLs are downloaded first."""
    with reporting_cache_errors(cache := resolve_cache_dir(cache_dir)):
        if is_url(path.split("::")[0]):
            downloads = download_shards(path, cache, max_gib=cache_gib)
            return index_third_party_shards(downloads, find_shards(downloads).tars, cache, settings)
        folder, tars = list_local_tars(path)
        return index_third_party_shards(folder, tars, cache, settings, is_selection=True)


def _index(folder: Path, cache_dir: str | Path | None, settings: IndexSettings) -> Path:
    """Return the folder of the index of third-party shards; the folder itself if there are none in it."""
    shards = find_shards(folder)
    if problem := find_folder_problem(folder, shards):
        raise DataError([problem])
    if not shards.tars:
        return folder
    with reporting_cache_errors(cache := resolve_cache_dir(cache_dir)):
        return index_third_party_shards(folder, shards.tars, cache, settings)
