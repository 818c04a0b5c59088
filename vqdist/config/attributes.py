"""Attributes of samples, such as age, sex or diagnosis: their kinds, and what the training data show of each.

Datasets, saved models and the configuration of a prior use these classes; nothing here imports torch.
"""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from vqdist.config.section import Int, Real, Section, key
from vqdist.foundation.errors import Problem

Kind = Literal["number", "category"]
AttributeValue = float | str
KINDS: tuple[Kind, ...] = ("number", "category")
RESERVED = ("label", "slice", "subject", "source", "previous")  # names that mean something else
UNKNOWN = "unknown"
MAX_CATEGORIES = 64
_DIGITS = 9  # significant digits of the statistics


class Attribute(Section):
    """One attribute as the training data show it."""

    kind: Kind = key("number", "number or category")
    low: Real = key(0.0, "least number")
    high: Real = key(1.0, "greatest number")
    mean: Real = key(0.0, "mean of the numbers")
    std: Real = key(1.0, "standard deviation of the numbers", gt=0)
    values: tuple[str, ...] = key((), "the categories, sorted")
    unknown: Int = key(0, "training samples without a value", ge=0)

    def find_conflicts(self) -> list[Problem]:
        if self.kind == "category" and not 1 <= len(set(self.values)) == len(self.values) <= MAX_CATEGORIES:
            return [Problem("values", str(len(self.values)), f"1 to {MAX_CATEGORIES} different categories")]
        if self.low > self.high:
            return [Problem("low", str(self.low), f"at most high, {self.high}")]
        return []

    @classmethod
    def summarize(cls, kind: Kind, values: Mapping[AttributeValue | None, int]) -> Self | None:
        """Summarise the values of an attribute in the training data; None if no sample has one.

        Args:
            values: value, or None where it is unknown -> number of samples.
        """
        known = {value: count for value, count in values.items() if value is not None}
        unknown = values.get(None, 0)
        if not known:
            return None
        if kind == "category":
            return cls(kind=kind, values=tuple(sorted(str(value) for value in known)), unknown=unknown)
        total = sum(known.values())
        mean = sum(float(value) * count for value, count in known.items()) / total
        variance = sum((float(value) - mean) ** 2 * count for value, count in known.items()) / total
        low, high = min(map(float, known)), max(map(float, known))
        std = math.sqrt(variance) or 1.0
        return cls(kind=kind, low=low, high=high, mean=_round(mean), std=_round(std), unknown=unknown)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON values of a dataset or a saved model: only what its kind has."""
        names = {"low", "high", "mean", "std"} if self.kind == "number" else {"values"}
        return self.model_dump(mode="json", include={"kind", "unknown"} | names)

    def encode(self, value: AttributeValue | None) -> float:
        """Return a value of a sample as a number: itself, or the index of a category; NaN if unknown."""
        if value is None:
            return math.nan
        if self.kind == "number":
            return float(value)
        return float(self.values.index(str(value))) if value in self.values else math.nan

    def decode(self, number: float) -> AttributeValue | None:
        """Return the value of an encoded number; None if unknown."""
        if math.isnan(number):
            return None
        return number if self.kind == "number" else self.values[int(number)]

    def parse(self, name: str, value: object, *, extrapolate: bool = False) -> tuple[float, list[Problem]]:
        """Encode a value that a user gives, None or "unknown" for unknown; return it with its problem.

        Args:
            extrapolate: accept numbers outside of the range of the training data.
        """
        if value is None or value == UNKNOWN:
            return math.nan, []
        if self.kind == "category":
            number = self.encode(str(value))
            return number, [Problem(name, repr(value), self.describe())] if math.isnan(number) else []
        try:
            number = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            return math.nan, [Problem(name, repr(value), self.describe())]
        if math.isnan(number):
            return number, []
        inside = self.low <= number <= self.high or (extrapolate and math.isfinite(number))
        return number, [] if inside else [Problem(name, f"{number:g}", self.describe())]

    def describe(self) -> str:
        """Return what values there are, for messages."""
        if self.kind == "category":
            return f"{', '.join(self.values)} or {UNKNOWN}"
        return f"a number from {self.low:g} to {self.high:g}, the range of the training data, or {UNKNOWN}"


Attributes = Mapping[str, Attribute]


def _round(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


@dataclass(frozen=True)
class AttributeRow:
    """The attributes of training samples that share them, usually those of a subject, with label and slice numbers.

    Attributes:
        values: of each attribute; None where it is unknown.
        runs: (label, first slice, last slice, samples of each slice).
    """

    values: tuple[AttributeValue | None, ...]
    runs: tuple[tuple[int | None, int | None, int | None, int], ...]

    def list_conditions(self) -> list[tuple[int | None, int | None, int]]:
        """Return (label, slice, number of samples) for each pair."""
        return [
            (label, number, count)
            for label, first, last, count in self.runs
            for number in ([None] if first is None or last is None else range(first, last + 1))
        ]


def build_rows(
    counts: Mapping[tuple[tuple[AttributeValue | None, ...], int | None, int | None], int],
) -> tuple[AttributeRow, ...]:
    """Return the rows of the training data.

    Args:
        counts: (values, label, slice) -> number of samples.
    """
    grouped: dict[tuple[AttributeValue | None, ...], list[tuple[int | None, int | None, int]]] = {}
    for (values, label, number), count in counts.items():
        grouped.setdefault(values, []).append((label, number, count))

    def order(values: tuple[AttributeValue | None, ...]) -> list[tuple[str, float, str]]:
        return [(type(value).__name__, value if isinstance(value, float) else 0.0, str(value)) for value in values]

    return tuple(AttributeRow(values, _build_runs(grouped[values])) for values in sorted(grouped, key=order))


def select_attributes(
    attributes: Attributes, rows: Iterable[AttributeRow], names: Collection[str]
) -> tuple[Attributes, tuple[AttributeRow, ...]]:
    """Return some of the attributes, and the rows with the values of these alone; without any, no rows."""
    places = [place for place, name in enumerate(attributes) if name in names]
    counts: Counter[tuple[tuple[AttributeValue | None, ...], int | None, int | None]] = Counter()
    for row in rows if places else ():
        for label, number, count in row.list_conditions():
            counts[tuple(row.values[place] for place in places), label, number] += count
    return {name: found for name, found in attributes.items() if name in names}, build_rows(counts)


def _build_runs(
    conditions: Iterable[tuple[int | None, int | None, int]],
) -> tuple[tuple[int | None, int | None, int | None, int], ...]:
    """Join neighbouring slice numbers with the same label and count."""
    runs: list[tuple[int | None, int | None, int | None, int]] = []
    ordered = sorted(conditions, key=lambda row: (-1 if row[0] is None else row[0], -1 if row[1] is None else row[1]))
    for label, number, count in ordered:
        if runs and number is not None and runs[-1][2] is not None:
            before, first, last, size = runs[-1]
            if (before, last + 1, size) == (label, number, count):  # type: ignore[operator]
                runs[-1] = (label, first, number, count)
                continue
        runs.append((label, number, number, count))
    return tuple(runs)


def count_values(rows: Iterable[AttributeRow], place: int) -> Counter[AttributeValue | None]:
    """Return how many training samples have each value of the attribute at a place of the rows."""
    counts: Counter[AttributeValue | None] = Counter()
    for row in rows:
        counts[row.values[place]] += sum(count for *_, count in row.list_conditions())
    return counts
