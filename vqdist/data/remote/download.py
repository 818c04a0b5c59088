"""Download of one file: streamed, bounded in size, verified, retried, and written atomically.

http(s) uses the standard library, every other scheme fsspec. Nothing is executed: pipes and chained URLs are refused,
and a redirect may lead to http(s) only.
"""

import hashlib
import http.client
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit, urlunsplit

from vqdist.foundation.atomic_files import locked_file
from vqdist.foundation.errors import DataError, FetchError

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_FOLDED = re.compile(r"(?:^|(?<=::))([a-z][a-z0-9+.-]+):/(?!/)", re.IGNORECASE)
# Protocols of fsspec that wrap other URLs.
_WRAPPERS = frozenset(
    ("async_wrapper", "asyncwrapper", "blockcache", "cached", "dask", "data", "dir", "filecache", "generic", "jlab")
) | {"jupyter", "libarchive", "pyscript", "reference", "simplecache", "tar", "zip"}
_RETRIED_STATUS = frozenset((408, 425, 429, 500, 502, 503, 504))
_MISMATCH_ATTEMPTS = 3  # after which a file with other content is an error of the data
_CHUNK_BYTES = 2**20


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how long to retry a download.

    Attributes:
        attempts: most attempts per file.
        first_pause_s: pause after the first attempt; each later pause is twice as long, at most 30 s.
        timeout_s: seconds without data after which a connection counts as lost.
    """

    attempts: int = 8
    first_pause_s: float = 0.5
    timeout_s: float = 30.0

    def pause_s(self, failures: int) -> float:
        """Return the pause after a number of failed attempts."""
        return min(self.first_pause_s * 2 ** (failures - 1), 30.0)


@dataclass(frozen=True)
class Expected:
    """Expected size and content of a file.

    Attributes:
        max_bytes: upper bound of the size; reading ends there.
        bytes, sha256: exact size and digest; None: unknown.
    """

    max_bytes: int
    bytes: int | None = None
    sha256: str | None = None


class _MismatchError(Exception):
    """The content is not the expected one; a retry may help."""


class _DiskError(Exception):
    """The file cannot be written; no retry helps."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(str(cause))
        self.cause = cause


# What libraries raise for a failing network or server.
_DOWNLOAD_ERRORS = (
    *(OSError, http.client.HTTPException, ValueError, RuntimeError, EOFError, ImportError),
    _MismatchError,
)


def is_url(path: str | Path) -> bool:
    """Whether a path is a URL, or a pipe or chain of URLs, and not a path on this machine."""
    return bool(_SCHEME.match(str(path))) or "::" in str(path) or str(path).startswith("pipe:")


def restore_url(path: str | Path) -> str | Path:
    """Return the URL that became a Path, in which a single slash follows the colon; any other path as it is."""
    return _FOLDED.sub(r"\1://", str(path)) if isinstance(path, Path) and _FOLDED.match(str(path)) else path


def check_url(url: str) -> None:
    """Raise DataError unless a URL is plain (no pipe, no chain) and its scheme is supported."""
    scheme = url.partition("://")[0].lower()
    if not _SCHEME.match(url) or "::" in url or scheme == "pipe":
        raise DataError.of("data.path", url, "a folder or a plain URL; pipes and chains are not supported")
    if scheme in ("http", "https"):
        if not urlsplit(url).hostname:
            raise DataError.of("data.path", url, "http(s)://HOST/...")
        return
    from fsspec import available_protocols

    if scheme not in available_protocols() or scheme in _WRAPPERS:
        raise DataError.of("data.path", url, "http(s)://, or another scheme that fsspec supports, such as s3://")


def join_url(url: str, name: str) -> str:
    """Return the URL of a file of the dataset. The query of a signed URL stays at the end."""
    if url.lower().startswith(("http://", "https://")):
        parts = urlsplit(url)
        return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{name}"))
    return f"{url.rstrip('/')}/{name}"


def fetch_bytes(url: str, expected: Expected, policy: RetryPolicy) -> bytes:
    """Download a small file into memory.

    Raises:
        DataError: the file is missing, too large, or not the expected one.
        FetchError: the download failed after all retries.
    """
    chunks: list[bytes] = []

    def download() -> None:
        chunks.clear()
        chunks.extend(_verified_chunks(url, expected, policy))

    _retry(download, url, policy)
    return b"".join(chunks)


def fetch_file(url: str, target: Path, expected: Expected, policy: RetryPolicy) -> bool:
    """Download a file to a path, where it appears once it is complete and verified.

    Returns:
        False if `target` exists or another process is downloading it.
    Raises:
        DataError, FetchError: as `fetch_bytes`.
        OSError: the file cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with locked_file(target) as file:
        if file is None:
            return False

        def download() -> None:
            file.seek(0)
            file.truncate()
            for chunk in _verified_chunks(url, expected, policy):
                _write(file, chunk)

        _retry(download, url, policy)
    return True


def _write(file: BinaryIO, chunk: bytes) -> None:
    try:
        file.write(chunk)
    except OSError as error:
        raise _DiskError(error) from error


def _retry(download: Callable[[], None], url: str, policy: RetryPolicy) -> None:
    for failures in range(1, policy.attempts + 1):
        try:
            return download()
        except _DiskError as error:
            raise error.cause from None
        except _DOWNLOAD_ERRORS as error:
            accept_mismatch = failures != min(_MISMATCH_ATTEMPTS, policy.attempts)
            found = _describe_temporary_error(error, url, accept_mismatch=accept_mismatch)
            if failures == policy.attempts:
                raise FetchError(f"{url}: {found}; gave up after {failures} attempts") from error
        time.sleep(policy.pause_s(failures))
    return None


def _describe_temporary_error(error: Exception, url: str, *, accept_mismatch: bool) -> str:
    """Describe an error after which a retry may help.

    Raises:
        DataError: no retry helps.
    """
    if isinstance(error, urllib.error.HTTPError):
        error.close()
        found = f"HTTP {error.code} {error.reason}"
        if error.code not in _RETRIED_STATUS:
            raise DataError.of(url, found, "a readable file") from error
        return found
    if isinstance(error, (FileNotFoundError, PermissionError, NotADirectoryError, IsADirectoryError)):
        raise DataError.of(url, error.strerror or "nothing there", "a readable file") from error
    if isinstance(error, ImportError):
        raise DataError.of(url, str(error), "the fsspec package for URLs of this scheme to be installed") from error
    if isinstance(error, _MismatchError) and not accept_mismatch:
        raise DataError.of(url, str(error), "the content that the manifest describes") from error
    return f"{type(error).__name__}: {error}"


def _verified_chunks(url: str, expected: Expected, policy: RetryPolicy) -> Iterator[bytes]:
    """Yield the content of a file. The last chunk is yielded only if the whole file is as expected."""
    digest, size, held_back = hashlib.sha256(), 0, b""
    with _open(url, policy) as (stream, content_length):
        while chunk := stream.read(_CHUNK_BYTES):
            size += len(chunk)
            if size > expected.max_bytes:
                expected_size = "a file of the size that the manifest describes"
                raise DataError.of(url, f"more than {expected.max_bytes} bytes", expected_size)
            digest.update(chunk)
            yield held_back
            held_back = chunk
    if content_length is not None and size < content_length:
        raise ConnectionError(f"connection lost after {size} of {content_length} bytes")
    if expected.bytes is not None and size != expected.bytes:
        raise _MismatchError(f"{size} bytes, not {expected.bytes}")
    if expected.sha256 is not None and digest.hexdigest() != expected.sha256:
        raise _MismatchError(f"sha256 {digest.hexdigest()[:12]}, not {expected.sha256[:12]}")
    yield held_back


@contextmanager
def _open(url: str, policy: RetryPolicy) -> Iterator[tuple[Any, int | None]]:
    """Open a URL; yield the stream and its content length, None if unknown."""
    if url.lower().startswith(("http://", "https://")):
        request = urllib.request.Request(url, headers={"User-Agent": "vqdist", "Accept-Encoding": "identity"})
        with _http_opener().open(request, timeout=policy.timeout_s) as response:
            length = response.headers.get("Content-Length")
            yield response, int(length) if length and length.isdecimal() else None
        return
    import fsspec

    with fsspec.open(url, "rb") as stream:
        yield stream, None


def _http_opener() -> urllib.request.OpenerDirector:
    """Build an opener for http and https only; the default one also follows redirects to ftp and file URLs."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener
