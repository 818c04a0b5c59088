"""One file from an address into a folder: streamed, bounded, verified, tried again; there whole or not at all.

http(s) goes through the standard library, every other address through fsspec. Nothing is ever executed: there are
no pipes, no chained addresses, and a redirect may lead to http(s) alone.
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
from typing import Any, BinaryIO, NoReturn
from urllib.parse import urlsplit, urlunsplit

from vqdist.foundation.atomic_files import locked_file
from vqdist.foundation.errors import DataError, FetchError

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
# What fsspec knows that is no place of its own but wraps other addresses.
_WRAPPERS = frozenset(
    ("async_wrapper", "asyncwrapper", "blockcache", "cached", "dask", "data", "dir", "filecache", "generic", "jlab")
) | {"jupyter", "libarchive", "pyscript", "reference", "simplecache", "tar", "zip"}
_WORTH_ANOTHER_TRY = frozenset((408, 425, 429, 500, 502, 503, 504))
_READ_BYTES = 2**20


@dataclass(frozen=True)
class Patience:
    """How long to go on with an address that does not answer as it should.

    Attributes:
        tries: of one file.
        first_pause_s: after the first; each later pause is twice as long, at most 30 s.
        silence_s: a server that says nothing for so long has dropped the connection.
    """

    tries: int = 8
    first_pause_s: float = 0.5
    silence_s: float = 30.0

    def pause_s(self, failures: int) -> float:
        return min(self.first_pause_s * 2 ** (failures - 1), 30.0)


@dataclass(frozen=True)
class Expected:
    """What a file must be.

    Attributes:
        max_bytes: no more is read.
        bytes, sha256: exactly; None where nobody says.
    """

    max_bytes: int
    bytes: int | None = None
    sha256: str | None = None


class _MismatchError(Exception):
    """What came is not what must come; another try may help."""


# What libraries raise when a network or a server does not do its part.
_SPENT = (
    *(OSError, http.client.HTTPException, ValueError, RuntimeError, EOFError, ImportError),
    _MismatchError,
)


def is_url(path: str | Path) -> bool:
    """Tell whether a path means something beyond this machine's folders."""
    return bool(_ADDRESS.match(str(path))) or "::" in str(path) or str(path).startswith("pipe:")


def check_url(address: str) -> None:
    """Raise DataError unless an address is plain: a scheme that is known, no pipe, no chain."""
    scheme = address.partition("://")[0].lower()
    if not _ADDRESS.match(address) or "::" in address or scheme == "pipe":
        raise DataError.of("data.path", address, "a folder or a plain address; pipes and chains are never followed")
    if scheme in ("http", "https"):
        if not urlsplit(address).hostname:
            raise DataError.of("data.path", address, "http(s)://HOST/...")
        return
    from fsspec import available_protocols

    if scheme not in available_protocols() or scheme in _WRAPPERS:
        raise DataError.of("data.path", address, "http(s)://, or an address that fsspec knows, such as s3://")


def join_url(address: str, name: str) -> str:
    """Return the address of a file of the data set; a query (of a signed address) stays at the end."""
    if address.lower().startswith(("http://", "https://")):
        parts = urlsplit(address)
        return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{name}"))
    return f"{address.rstrip('/')}/{name}"


def fetch_bytes(address: str, expected: Expected, patience: Patience) -> bytes:
    """Return the content of a small file.

    Raises:
        DataError: it is not there, too large, or other than expected.
        FetchError: it did not come in spite of all tries.
    """
    chunks: list[bytes] = []

    def read() -> None:
        chunks.clear()
        for chunk in _verified_chunks(address, expected, patience):
            chunks.append(chunk)

    _try(read, address, patience)
    return b"".join(chunks)


def fetch_file(address: str, target: Path, expected: Expected, patience: Patience) -> bool:
    """Have a file come to a path, under its name only once it is whole and verified.

    Returns:
        False where another process is at it.
    Raises:
        As fetch_bytes; OSError where it cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with locked_file(target) as file:
        if file is None:
            return False

        def read() -> None:
            file.seek(0)
            file.truncate()
            for chunk in _verified_chunks(address, expected, patience):
                _write(file, chunk)

        _try(read, address, patience)
    return True


class _DiskError(Exception):
    """The disk, not the network: no try will help."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(str(cause))
        self.cause = cause


def _write(file: BinaryIO, chunk: bytes) -> None:
    try:
        file.write(chunk)
    except OSError as error:
        raise _DiskError(error) from error


def _try(read: Callable[[], None], address: str, patience: Patience) -> None:
    for failures in range(1, patience.tries + 1):
        try:
            return read()
        except _DiskError as error:
            raise error.cause from None
        except _SPENT as error:
            found = _judge(error, address, last=failures == min(3, patience.tries))
            if failures == patience.tries:
                raise FetchError(f"{address}: {found}; given up after {failures} tries") from error
        time.sleep(patience.pause_s(failures))
    return None


def _judge(error: Exception, address: str, *, last: bool) -> str:
    """Return what went wrong; DataError where another try cannot help, or has not helped."""
    if isinstance(error, urllib.error.HTTPError):
        error.close()
        found = f"HTTP {error.code} {error.reason}"
        if error.code not in _WORTH_ANOTHER_TRY:
            raise DataError.of(address, found, "a file that can be read") from error
        return found
    if isinstance(error, (FileNotFoundError, PermissionError, NotADirectoryError, IsADirectoryError)):
        raise DataError.of(address, error.strerror or "nothing there", "a file that can be read") from error
    if isinstance(error, ImportError):
        raise DataError.of(address, str(error), "the package that knows such addresses, installed") from error
    if isinstance(error, _MismatchError) and last:
        raise DataError.of(address, str(error), "what the manifest says") from error
    return f"{type(error).__name__}: {error}"


def _verified_chunks(address: str, expected: Expected, patience: Patience) -> Iterator[bytes]:
    """Yield the content of a file; the last chunk comes only if all of it is as expected."""
    digest, size, held = hashlib.sha256(), 0, b""
    with _open(address, patience) as (stream, told):
        while chunk := stream.read(_READ_BYTES):
            size += len(chunk)
            if size > expected.max_bytes:
                _refuse_size(address, f"more than {expected.max_bytes} bytes")
            digest.update(chunk)
            yield held
            held = chunk
    if told is not None and size < told:
        raise ConnectionError(f"{size} of {told} bytes came")
    if expected.bytes is not None and size != expected.bytes:
        raise _MismatchError(f"{size} bytes, not {expected.bytes}")
    if expected.sha256 is not None and digest.hexdigest() != expected.sha256:
        raise _MismatchError(f"sha256 {digest.hexdigest()[:12]}, not {expected.sha256[:12]}")
    yield held


def _refuse_size(address: str, found: str) -> NoReturn:
    raise DataError.of(address, found, "a file of the size that the manifest says")


@contextmanager
def _open(address: str, patience: Patience) -> Iterator[tuple[Any, int | None]]:
    """Open an address; also tell how many bytes the server promises, where it does."""
    if address.lower().startswith(("http://", "https://")):
        request = urllib.request.Request(address, headers={"User-Agent": "vqdist", "Accept-Encoding": "identity"})
        with _http_opener().open(request, timeout=patience.silence_s) as response:
            told = response.headers.get("Content-Length")
            yield response, int(told) if told and told.isdecimal() else None
        return
    import fsspec

    with fsspec.open(address, "rb") as stream:
        yield stream, None


def _http_opener() -> urllib.request.OpenerDirector:
    """Build an opener that knows http and https; urllib's own would follow ftp and file addresses too."""
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
