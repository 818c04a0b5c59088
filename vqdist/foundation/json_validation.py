"""JSON as a stranger may have written it: bounded in size, and every value checked by hand."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from vqdist.foundation.errors import DataError

_MAX_PIXELS = 2**28
_T = TypeVar("_T")


def load_json(path: Path, max_bytes: int) -> object:
    """Read a JSON file of bounded size; DataError where it is missing, too large or no JSON."""
    try:
        with open(path, "rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise DataError.of(str(path), error.strerror or str(error), "a JSON file that can be read") from error
    if len(data) > max_bytes:
        raise DataError.of(str(path), f"more than {max_bytes} bytes", "a JSON file of sane size")
    return parse_json(data, str(path))


def parse_json(data: bytes, where: str) -> object:
    """Decode JSON that a stranger may have written: no NaN, no depth that breaks the stack."""
    try:
        return decode_json(data)
    except (ValueError, RecursionError) as error:
        raise DataError.of(where, f"no valid JSON ({str(error)[:200]})", "JSON as vqdist writes it") from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def decode_json(data: bytes) -> object:
    """Decode JSON in UTF-8, without NaN; ValueError or RecursionError where it is none."""
    return _DECODER.decode(data.decode())  # json.loads would build a decoder each time


def _is_number(value: object) -> bool:
    if type(value) is int:
        return abs(value) <= 2**53
    return isinstance(value, float) and math.isfinite(value)


class Fields:
    """Checked access to the values of a JSON object."""

    def __init__(self, values: object, where: str) -> None:
        if not isinstance(values, dict):
            raise DataError.of(where, type(values).__name__, "a JSON object")
        self._values = values
        self._where = where

    def fail(self, key: str, found: object, expected: str) -> NoReturn:
        raise DataError.of(f"{self._where}, {key}", repr(found)[:200], expected)

    def integer(self, key: str, low: int = 0, high: int = 2**62) -> int:
        value = self._values.get(key)
        if type(value) is not int or not low <= value <= high:
            self.fail(key, value, f"a whole number from {low} to {high}")
        return value

    def text(self, key: str) -> str:
        value = self._values.get(key)
        if not isinstance(value, str):
            self.fail(key, value, "text")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self.items(key)
        if not all(isinstance(item, str) for item in value):
            self.fail(key, value, "a list of texts")
        return tuple(value)

    def one_of(self, key: str, choices: tuple[str | int, ...]) -> str | int:
        value = self._values.get(key)
        if type(value) not in {type(choice) for choice in choices} or value not in choices:
            self.fail(key, value, " or ".join(map(str, choices)))
        return value

    def mapping(self, key: str) -> dict[str, Any]:
        value = self._values.get(key)
        if not isinstance(value, dict):
            self.fail(key, value, "a JSON object")
        return value

    def items(self, key: str) -> list[Any]:
        value = self._values.get(key)
        if not isinstance(value, list):
            self.fail(key, value, "a list")
        return value

    def pair(self, key: str) -> tuple[int, int]:
        value = self.items(key)
        if len(value) != 2 or any(type(side) is not int or side < 1 for side in value):
            self.fail(key, value, "two sizes, [rows, columns]")
        if value[0] * value[1] > _MAX_PIXELS:
            self.fail(key, value, f"at most {_MAX_PIXELS} pixels")
        return value[0], value[1]

    def numbers(self, key: str, count: int | None) -> tuple[float, ...] | None:
        """A list of `count` finite numbers, or None where the value is null; never a list where count is None."""
        if self._values.get(key) is None:
            return None
        value = self.items(key)
        if len(value) != count or not all(map(_is_number, value)):
            self.fail(key, value, f"{count} finite numbers" if count else "null")
        return tuple(float(x) for x in value)

    def conditions(self, key: str) -> tuple[tuple[int | None, int | None, int], ...]:
        """A list of [label or null, slice or null, count]; a manifest without one has none."""
        if self._values.get(key) is None:
            return ()
        rows = self.items(key)
        for row in rows:
            if (
                not isinstance(row, list)
                or len(row) != 3
                or any(part is not None and type(part) is not int for part in row)
            ):
                self.fail(key, row, "[label, slice, count]")
            if type(row[2]) is not int or row[2] < 1:
                self.fail(key, row, "a count of at least 1")
        return tuple((label, number, count) for label, number, count in rows)

    def optional(self, key: str, read: Callable[[str], _T]) -> _T | None:
        return None if self._values.get(key) is None else read(key)
