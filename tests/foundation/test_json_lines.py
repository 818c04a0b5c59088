"""Appending to and reading from JSON-lines files."""

from pathlib import Path

import pytest
from support import read_records

from vqdist.foundation.atomic_files import write_atomic
from vqdist.foundation.json_lines import JsonLinesFile, JsonLinesFollower, read_json_lines


def test_reading_stops_at_a_line_that_was_cut_off(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    whole = b'{"step": 1}\n{"step": 2, "a": "\xc3\xa9"}\n'
    for torn in (
        b"",
        b'{"st',
        b'{"step": 3}',
        b"\0" * 50,
        b"[]\n",
        b'{"step": "3"}\n',
        b'{"step": null}\n{"step": 4}\n',
    ):
        file.write_bytes(whole + torn)
        assert b"".join(line for line, _ in read_json_lines(file)) == whole


def test_lines_refused_by_a_full_disk_are_written_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = JsonLinesFile(tmp_path / "metrics.jsonl", lambda: None)
    real, room = lines._file, [3]

    class Disk:
        """Accepts a few bytes, then none until it has room again."""

        def write(self, data: bytes) -> int:
            if room[0] == 0:
                raise OSError(28, "No space left on device")
            part, room[0] = data[: room[0]], max(0, room[0] - len(data))
            return real.write(part) or 0

        fileno, close = real.fileno, real.close

    monkeypatch.setattr(lines, "_file", Disk())
    lines.append({"step": 1})
    lines.append({"step": 2})
    with pytest.raises(OSError, match="No space"):
        lines.sync()
    assert (tmp_path / "metrics.jsonl").read_bytes() == b'{"s'
    room[0] = 1000
    lines.append({"step": 3})
    lines.sync()
    lines.close()
    assert read_records(tmp_path / "metrics.jsonl") == [{"step": 1}, {"step": 2}, {"step": 3}]


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def test_following_a_file_returns_each_record_once(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    follower = JsonLinesFollower(file)
    assert follower.read() == []
    append(file, '{"step": 1}\n{"st')
    assert follower.read() == [{"step": 1}]
    assert follower.read() == []
    append(file, 'ep": 2}\n')
    assert follower.read() == [{"step": 2}]


def test_a_file_that_is_replaced_is_followed_from_its_beginning(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    append(file, '{"step": 1}\n{"step": 2}\n{"step"')
    follower = JsonLinesFollower(file)
    assert follower.read() == [{"step": 1}, {"step": 2}]
    write_atomic(file, b'{"step": 1}\n')
    append(file, '{"step": 3}\n')
    assert follower.read() == [{"step": 1}, {"step": 3}]
    file.write_text('{"step": 4}\n')
    assert follower.read() == [{"step": 4}]
    file.unlink()
    assert follower.read() == []
