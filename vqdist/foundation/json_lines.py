"""JSON-lines files: one JSON object per line, appended while a run is in progress and read by other processes."""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

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
    """Reader of a JSON-lines file that another process appends to. A replaced file is read from its beginning.

    Args:
        path: the file; it may not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inode, self._offset = 0, 0

    def read(self) -> list[dict[str, Any]]:
        """Return the records since the last call, [] if the file cannot be read; an incomplete line is read later."""
        try:
            with self._path.open("rb") as file:
                status = os.fstat(file.fileno())
                if status.st_ino != self._inode or status.st_size < self._offset:
                    self._inode, self._offset = status.st_ino, 0
                file.seek(self._offset)
                lines = file.read().split(b"\n")[:-1]
        except OSError:
            return []
        self._offset += sum(len(line) + 1 for line in lines)
        return [json.loads(line) for line in lines]


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
