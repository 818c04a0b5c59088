"""Reading JSON from untrusted files: bounded size, and every value checked."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeGuard, TypeVar

from vqdist.foundation.errors import DataError
from vqdist.foundation.shown_values import show_found, show_type

AffineRows = tuple[tuple[float, ...], ...]  # (4, 4)

_MAX_PIXELS = 2**28
_T = TypeVar("_T")


def load_json(path: Path, max_bytes: int) -> object:
    """Read a JSON file of at most max_bytes bytes.

    Raises:
        DataError: the file is missing, too large or not valid JSON.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise DataError.of(str(path), error.strerror or str(error), "a readable JSON file") from error
    if len(data) > max_bytes:
        raise DataError.of(str(path), f"more than {max_bytes} bytes", f"a JSON file of at most {max_bytes} bytes")
    return parse_json(data, str(path))


def parse_json(data: bytes, where: str) -> object:
    """Decode JSON; raise DataError, which names `where`, if it is invalid, contains NaN or is nested too deeply."""
    try:
        return decode_json(data)
    except (ValueError, RecursionError) as error:
        raise DataError.of(where, f"invalid JSON ({str(error)[:200]})", "JSON as vqdist writes it") from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def decode_json(data: bytes) -> object:
    """Decode UTF-8 JSON without NaN; raise ValueError or RecursionError if it is invalid."""
    return _DECODER.decode(data.decode())  # json.loads would build a decoder for each call


def _is_finite_number(value: object) -> TypeGuard[float]:
    if type(value) is int:
        return abs(value) <= 2**53
    return isinstance(value, float) and math.isfinite(value)


class Fields:
    """Checked access to the values of a JSON object.

    Each method returns the value of a key and raises DataError if it has another type or is out of range.
    """

    def __init__(self, values: object, where: str) -> None:
        if not isinstance(values, dict):
            raise DataError.of(where, show_type(values), "a JSON object")
        self._values = values
        self._where = where

    def fail(self, key: str, found: object, expected: str) -> NoReturn:
        """Raise the DataError for a key."""
        raise DataError.of(f"{self._where}, {key}", show_found(found), expected)

    def _typed(self, key: str, kind: type[_T], expected: str) -> _T:
        value = self._values.get(key)
        if not isinstance(value, kind):
            self.fail(key, value, expected)
        return value

    def integer(self, key: str, low: int = 0, high: int = 2**62) -> int:
        """Return a whole number from low to high."""
        value = self._values.get(key)
        if type(value) is not int or not low <= value <= high:
            self.fail(key, value, f"a whole number from {low} to {high}")
        return value

    def text(self, key: str) -> str:
        """Return a string."""
        return self._typed(key, str, "text")

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of strings."""
        value = self.items(key)
        if not all(isinstance(item, str) for item in value):
            self.fail(key, value, "a list of texts")
        return tuple(value)

    def one_of(self, key: str, choices: tuple[str | int, ...]) -> str | int:
        """Return a value that is one of the choices, with the same type."""
        value = self._values.get(key)
        if type(value) not in {type(choice) for choice in choices} or value not in choices:
            self.fail(key, value, " or ".join(map(str, choices)))
        return value

    def mapping(self, key: str) -> dict[str, Any]:
        """Return a JSON object."""
        return self._typed(key, dict, "a JSON object")

    def items(self, key: str) -> list[Any]:
        """Return a list."""
        return self._typed(key, list, "a list")

    def pair(self, key: str) -> tuple[int, int]:
        """Return two positive sizes whose product is at most 2**28."""
        value = self.items(key)
        if len(value) != 2 or any(type(side) is not int or side < 1 for side in value):
            self.fail(key, value, "two sizes, [rows, columns]")
        if value[0] * value[1] > _MAX_PIXELS:
            self.fail(key, value, f"at most {_MAX_PIXELS} pixels")
        return value[0], value[1]

    def number(self, key: str) -> float:
        """Return a finite number."""
        value = self._values.get(key)
        if not _is_finite_number(value):
            self.fail(key, value, "a finite number")
        return float(value)

    def numbers(self, key: str, count: int | None) -> tuple[float, ...] | None:
        """Return `count` finite numbers, or None where the value is null; with a count of None it must be null."""
        if self._values.get(key) is None:
            return None
        value = self.items(key)
        if len(value) != count or not all(map(_is_finite_number, value)):
            self.fail(key, value, f"{count} finite numbers" if count else "null")
        return tuple(float(x) for x in value)

    def affine(self, key: str) -> AffineRows:
        """Return a matrix of 4 x 4 finite numbers."""
        rows = self.items(key)
        if len(rows) != 4 or not all(isinstance(row, list) and len(row) == 4 for row in rows):
            self.fail(key, rows, "4 rows of 4 numbers")
        if not all(_is_finite_number(number) for row in rows for number in row):
            self.fail(key, rows, "finite numbers")
        return tuple(tuple(float(number) for number in row) for row in rows)

    def conditions(self, key: str) -> tuple[tuple[int | None, int | None, int], ...]:
        """Return a list of [label or null, slice or null, count]; empty where the value is null."""
        if self._values.get(key) is None:
            return ()
        rows = self.items(key)
        for row in rows:
            is_triple = isinstance(row, list) and len(row) == 3
            if not is_triple or any(part is not None and type(part) is not int for part in row):
                self.fail(key, row, "[label, slice, count]")
            if type(row[2]) is not int or row[2] < 1:
                self.fail(key, row, "a count of at least 1")
        return tuple((label, number, count) for label, number, count in rows)

    def optional(self, key: str, read: Callable[[str], _T]) -> _T | None:
        """Return None where the value is null, else what another method of this class reads."""
        return None if self._values.get(key) is None else read(key)
