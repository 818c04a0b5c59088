"""The JSON of attributes in dataset.json and in the card of a saved model: written, and read as untrusted input."""

from collections.abc import Mapping, Sequence
from typing import Any

from vqdist.config.attributes import Attribute, AttributeRow, Attributes
from vqdist.config.section import validate
from vqdist.foundation.json_validation import Fields

ATTRIBUTES, ROWS = "attributes", "attribute_rows"


def write_attributes(attributes: Attributes, rows: Sequence[AttributeRow]) -> dict[str, Any]:
    """Return the entries of attributes; none without attributes, as earlier versions wrote."""
    if not attributes:
        return {}
    return {
        ATTRIBUTES: {name: attribute.to_json() for name, attribute in attributes.items()},
        ROWS: [[list(row.values), [list(run) for run in row.runs]] for row in rows],
    }


def read_attributes(top: Fields) -> dict[str, Attribute]:
    """Return the attributes of a JSON object; DataError if one is invalid."""
    found: dict[str, Attribute] = {}
    for name, values in (top.optional(ATTRIBUTES, top.mapping) or {}).items():
        if not isinstance(values, dict):
            top.fail(f"{ATTRIBUTES}.{name}", values, "a JSON object")
        attribute, problems = validate(Attribute, values, lambda location: ".".join(map(str, location)))
        problems += attribute.find_conflicts() if attribute is not None else []
        for problem in problems:
            top.fail(f"{ATTRIBUTES}.{name}.{problem.where}", problem.found, problem.expected)
        assert attribute is not None
        found[name] = attribute
    return found


def read_rows(top: Fields, attributes: Mapping[str, Attribute]) -> tuple[AttributeRow, ...]:
    """Return the rows of a JSON object; DataError if one is invalid."""
    rows = []
    for row in top.optional(ROWS, top.items) or []:
        pair = row if isinstance(row, list) and len(row) == 2 else ([], None)
        values, runs = pair
        kinds = [attribute.kind for attribute in attributes.values()]
        if not isinstance(values, list) or len(values) != len(kinds) or not all(map(_is_value, values, kinds)):
            top.fail(ROWS, row, f"a value or null for each of {', '.join(attributes)}, and runs of slices")
        if not isinstance(runs, list) or not runs or not all(map(_is_run, runs)):
            top.fail(ROWS, row, "runs [label, first slice, last slice, samples]")
        numbers = [float(value) if isinstance(value, int) else value for value in values]
        rows.append(AttributeRow(tuple(numbers), tuple(tuple(run) for run in runs)))
    return tuple(rows)


def _is_value(value: object, kind: str) -> bool:
    if value is None:
        return True
    return isinstance(value, str) if kind == "category" else type(value) in (int, float)


def _is_run(run: object) -> bool:
    if not isinstance(run, list) or len(run) != 4 or type(run[3]) is not int or run[3] < 1:
        return False
    if any(part is not None and (type(part) is not int or not 0 <= part < 2**31) for part in run[:3]):
        return False
    first, last = run[1:3]
    return (first is None) == (last is None) and (first is None or last is None or 0 <= last - first < 2**20)
