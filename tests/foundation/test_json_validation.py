"""Reading of untrusted JSON: bounded size, no NaN, no deep nesting, and checked values."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vqdist.foundation.errors import DataError
from vqdist.foundation.json_validation import Fields, decode_json, load_json, parse_json


@pytest.mark.parametrize("data", [b"", b"{", b"NaN", b"[Infinity]", b"\xff", b"[" * 100_000, b"{} {}"])
def test_invalid_json_is_refused(data: bytes) -> None:
    with pytest.raises(DataError, match="here: found invalid JSON"):
        parse_json(data, "here")
    with pytest.raises((ValueError, RecursionError)):
        decode_json(data)


def test_valid_json() -> None:
    assert parse_json('{"é": [1, 2.5, null]}'.encode(), "here") == {"é": [1, 2.5, None]}


def test_files_are_bounded(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text("[1]")
    assert load_json(file, 3) == [1]
    with pytest.raises(DataError, match=r"a\.json: found more than 2 bytes"):
        load_json(file, 2)
    with pytest.raises(DataError, match=r"b\.json: found No such file"):
        load_json(tmp_path / "b.json", 2)
    with pytest.raises(DataError, match=r"Is a directory"):
        load_json(tmp_path, 2)


READERS: dict[str, Callable[[Fields], Any]] = {
    "integer": lambda fields: fields.integer("a", 1, 5),
    "text": lambda fields: fields.text("a"),
    "texts": lambda fields: fields.texts("a"),
    "one_of": lambda fields: fields.one_of("a", ("x", 1)),
    "mapping": lambda fields: fields.mapping("a"),
    "items": lambda fields: fields.items("a"),
    "pair": lambda fields: fields.pair("a"),
    "numbers": lambda fields: fields.numbers("a", 2),
    "no numbers": lambda fields: fields.numbers("a", None),
    "conditions": lambda fields: fields.conditions("a"),
    "optional": lambda fields: fields.optional("a", fields.text),
}
GOOD = [
    ("integer", 5, 5),
    ("text", "x", "x"),
    ("texts", ["x", "y"], ("x", "y")),
    ("one_of", 1, 1),
    ("mapping", {"b": 1}, {"b": 1}),
    ("items", [None], [None]),
    ("pair", [3, 4], (3, 4)),
    ("numbers", [1, 2.5], (1.0, 2.5)),
    ("numbers", None, None),
    ("no numbers", None, None),
    ("conditions", [[0, None, 3]], ((0, None, 3),)),
    ("conditions", None, ()),
    ("optional", None, None),
    ("optional", "x", "x"),
]
BAD = [
    *(("integer", value) for value in (0, 6, True, 1.0, "1", None)),
    *(("text", value) for value in (1, None)),
    *(("texts", value) for value in (["x", 1], "x", None)),
    *(("one_of", value) for value in ("y", True, 1.0, None)),
    *(("mapping", value) for value in ([], None)),
    *(("items", value) for value in ({}, "x")),
    *(("pair", value) for value in ([1], [0, 1], [1.0, 1], [2**20, 2**20], None)),
    *(("numbers", value) for value in ([1], [1, "2"], [1, float("inf")], [1, True], [1, 2**60])),
    *(("no numbers", value) for value in ([], [1])),
    *(("conditions", value) for value in ([[0, 1]], [[0, 1, 0]], [["0", 1, 1]], [0], {})),
    *(("optional", value) for value in (1,)),
]


@pytest.mark.parametrize(("reader", "value", "expected"), GOOD)
def test_valid_values_are_returned(reader: str, value: object, expected: object) -> None:
    assert READERS[reader](Fields({"a": value}, "here")) == expected


@pytest.mark.parametrize(("reader", "value"), BAD)
def test_invalid_values_are_named(reader: str, value: object) -> None:
    with pytest.raises(DataError, match="here, a: found"):
        READERS[reader](Fields({"a": value}, "here"))


def test_only_objects_have_fields() -> None:
    with pytest.raises(DataError, match="here: found a list; expected a JSON object"):
        Fields([], "here")
    with pytest.raises(DataError, match="here, a: found null"):
        Fields({}, "here").integer("a")
