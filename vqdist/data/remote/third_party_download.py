"""Third-party shards at URLs: downloaded whole into the cache folder, because they have no index to read parts by."""

import hashlib
from pathlib import Path

from vqdist.data.remote.download import Expected, RetryPolicy, check_url, fetch_file
from vqdist.data.shards.tar_lists import list_remote_tars, name_downloads
from vqdist.foundation.errors import DataError
from vqdist.foundation.file_locks import lock_file
from vqdist.foundation.progress import ProgressBar

_GIB = 2**30


def download_shards(url: str, cache_dir: Path, *, max_gib: float, policy: RetryPolicy | None = None) -> Path:
    """Download the tars that a URL names, unless they are there, and return their folder.

    Args:
        url: of one tar, or a pattern of them.
        cache_dir: one process downloads; the others wait.
        max_gib: limit of all tars together.
    Raises:
        DataError: a URL that is not supported, a missing tar, or more bytes than the limit.
        FetchError: a tar could not be read after all retries.
    """
    for part in url.split("::"):
        check_url(part)
    policy = policy or RetryPolicy()
    folder = cache_dir / f"tars-{hashlib.sha256(url.encode()).hexdigest()[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "ab") as lock:
        lock_file(lock)
        if not (folder / ".complete").exists():
            _download(list_remote_tars(url), folder, int(max_gib * _GIB), policy)
            (folder / ".complete").touch()
    return folder


def _download(urls: list[str], folder: Path, max_bytes: int, policy: RetryPolicy) -> None:
    left = max_bytes
    with ProgressBar(len(urls), unit="shards", label="download") as shown:
        for url, name in zip(urls, name_downloads(urls), strict=True):
            target = folder / name
            try:
                fetch_file(url, target, Expected(max_bytes=left), policy)
            except DataError as error:
                if "bytes" in error.problems[0].found:
                    raise DataError.of(
                        "data.cache_gib",
                        f"{max_bytes / _GIB:.3g} GiB, less than the shards of {url} and those before it",
                        "room for all third-party shards, which are downloaded whole; or a copy on a local disk",
                    ) from error
                raise
            left -= target.stat().st_size
            shown.advance()
