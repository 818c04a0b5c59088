"""Label, slice number and subject of third-party samples, whatever types their makers chose."""

import json

import pytest

from vqdist.data.shards.sample_fields import parse_lenient_json, parse_number, parse_text, read_fields
from vqdist.foundation.errors import DataError


@pytest.mark.parametrize(
    ("value", "number"),
    [(3, 3), (3.0, 3), ("3", 3), (" 3\n", 3), ("3.0", 3), ("007", 7), (True, 1), (0, 0)]
    + [
        (value, None)
        for value in (-1, 2.5, "cat", "-1", "1e3", float("nan"), float("inf"), 2**31, "9" * 11, [1], {}, None)
    ],
)
def test_whole_numbers_are_read_from_any_type(value: object, number: int | None) -> None:
    assert parse_number(value) == number


@pytest.mark.parametrize(
    ("value", "text"),
    [("a", "a"), (12, "12"), (12.0, "12")] + [(value, None) for value in ("", True, 2.5, float("nan"), [1], None)],
)
def test_names_are_read_from_text_and_numbers(value: object, text: str | None) -> None:
    assert parse_text(value) == text


def test_long_names_are_shortened_but_stay_different() -> None:
    first, second = parse_text("a" * 10_000), parse_text("a" * 10_001)
    assert first is not None
    assert second is not None
    assert first != second
    assert len(first) < 100


@pytest.mark.parametrize(
    "data",
    [
        b'\xef\xbb\xbf{"label": 2, "similarity": NaN}',
        '{"label": 2}'.encode("utf-16"),
        '{"label": 2, "caption": "café"}'.encode("latin-1"),
        b' {"label": 2, "x": [Infinity, {"y": null}]}\n',
    ],
)
def test_json_is_read_leniently(data: bytes) -> None:
    assert read_fields(data, None, where="here").info["label"] == 2


@pytest.mark.parametrize("data", [b"{", b"", b"[" * 100_000, b'{"a": ' + b"9" * 5000 + b"}"])
def test_invalid_json_is_refused(data: bytes) -> None:
    with pytest.raises(DataError, match=r"here: found invalid JSON"):
        parse_lenient_json(data, "here")


def test_the_class_file_is_used_where_the_json_has_no_label() -> None:
    fields = read_fields(json.dumps({"label": "cat", "subject": 7, "slice": "4"}).encode(), b"2\n", where="here")
    assert fields.info == {"subject": "7", "source": None, "slice": 4, "label": 2}
    assert fields.not_understood == {}
    assert fields.other_label is None
    both = read_fields(b'{"label": 1}', b"2", where="here")
    assert (both.info["label"], both.other_label) == (1, 2)
    assert read_fields(b'{"label": 2}', b"2", where="here").other_label is None


def test_values_that_are_not_understood_are_returned() -> None:
    fields = read_fields(b'{"label": "cat", "slice": -1, "subject": [1]}', None, where="here")
    assert fields.info == {"subject": None, "source": None, "slice": None, "label": None}
    assert fields.not_understood == {"label": "'cat'", "slice": "-1", "subject": "[1]"}
    assert read_fields(None, b"cat", where="here").not_understood == {"label": "'cat'"}
    assert read_fields(b'{"label": null, "subject": ""}', None, where="here").not_understood == {}
    assert read_fields(b"[1, 2]", None, where="here").not_understood == {"json": "[1, 2]"}
