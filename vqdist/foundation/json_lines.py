"""JSON-lines files: one JSON object per line, appended while a run is in progress and read by other processes."""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from vqdist.foundation.atomic_files import sync


class JsonLinesFile:
    """Append-only writer of a JSON-lines file. Each line is passed to the operating system immediately.

    Bytes that a full disk does not accept are kept in memory and written by a later call, so that no line is lost
    or torn.

    Args:
        path: the file. It and its folder are created if they do not exist.
        check: called before each append; raises an error if this process may no longer write.
    """

    def __init__(self, path: Path, check: Callable[[], None]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._check = check
        self._file = path.open("ab", buffering=0)
        sync(path.parent)
        self._unwritten = b""

    def append(self, record: dict[str, Any]) -> None:
        """Append one line. A write error is not raised here but by the next `sync`."""
        self._check()
        self._unwritten += json.dumps(record).encode() + b"\n"
        with suppress(OSError):
            self._write_pending()

    def sync(self) -> None:
        """Flush all lines to the disk, so that they survive a power failure.

        Raises:
            OSError: some lines could not be written.
        """
        self._write_pending()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        with suppress(OSError):
            self._write_pending()
        self._file.close()

    def _write_pending(self) -> None:
        while self._unwritten:
            self._unwritten = self._unwritten[self._file.write(self._unwritten) :]


class JsonLinesFollower:
    """Reader of a JSON-lines file that other processes append to. A file that is replaced is read from its beginning.

    Args:
        path: the file; it may not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._incomplete = b""

    def read(self) -> list[dict[str, Any]]:
        """Return the records since the last call. An incomplete line is left to the next call, as is a read error."""
        with suppress(OSError):
            if self._file is None or not os.path.samestat(os.fstat(self._file.fileno()), self._path.stat()):
                self._file, self._incomplete = self._path.open("rb"), b""
            *lines, self._incomplete = (self._incomplete + self._file.read()).split(b"\n")
            return [json.loads(line) for line in lines]
        return []


def read_json_lines(path: Path) -> list[tuple[bytes, dict[str, Any]]]:
    """Return (line, record) for each complete line of a run's JSON-lines file.

    Every record must be an object with an integer `step`. Reading stops at the first line that is not one, for
    example a line that was cut off when its writer was killed.
    """
    lines = []
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            record = json.loads(line)
        except ValueError:
            break
        if not line.endswith(b"\n") or not isinstance(record, dict) or not isinstance(record.get("step"), int):
            break
        lines.append((line, record))
    return lines
