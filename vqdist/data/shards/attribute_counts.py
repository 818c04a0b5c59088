"""Counts of the attributes of the train samples while a dataset is written, for its manifest."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from vqdist.config.attributes import Attribute, AttributeRow, AttributeValue, Kind, build_rows, count_values

Values = tuple[AttributeValue | None, ...]


class AttributeCounts:
    """Counts how many train samples have each combination of attributes, label and slice number.

    Args:
        kinds: kind of each attribute.
    """

    def __init__(self, kinds: Mapping[str, Kind]) -> None:
        self._kinds = dict(kinds)
        self._counts: Counter[tuple[Values, int | None, int | None]] = Counter()

    def add(self, info: Mapping[str, Any]) -> None:
        """Count a sample by its JSON."""
        if self._kinds:
            found = info.get("attributes") or {}
            values = tuple(_convert(found.get(name), kind) for name, kind in self._kinds.items())
            self._counts[values, info.get("label"), info.get("slice")] += 1

    def summarize(self) -> tuple[dict[str, Attribute], tuple[AttributeRow, ...]]:
        """Return the attributes that a sample has a value of, and their rows."""
        rows = build_rows(self._counts)
        found = {
            name: Attribute.summarize(kind, count_values(rows, place))
            for place, (name, kind) in enumerate(self._kinds.items())
        }
        places = [place for place, attribute in enumerate(found.values()) if attribute is not None]
        kept: Counter[tuple[Values, int | None, int | None]] = Counter()
        for (values, label, number), count in self._counts.items():
            kept[tuple(values[place] for place in places), label, number] += count
        attributes = {name: attribute for name, attribute in found.items() if attribute is not None}
        return attributes, build_rows(kept) if attributes else ()


def _convert(value: AttributeValue | None, kind: Kind) -> AttributeValue | None:
    return float(value) if value is not None and kind == "number" else value
