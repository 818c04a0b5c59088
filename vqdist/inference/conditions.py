"""The conditions of each map that a PixelCNN samples: given, or drawn from the training data."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from vqdist.foundation.errors import Problem, UserError, list_examples
from vqdist.foundation.seeds import derive_seed
from vqdist.models.map_conditions import MapConditions

NAMES = ("label", "slice")
ConditionRow = tuple[int | None, int | None, int]  # label, slice number, number of training samples with both


def draw_conditions(
    num: int, seed: int, *, given: Mapping[str, int | None], condition: str, table: Sequence[ConditionRow]
) -> MapConditions:
    """Return the conditions of `num` maps.

    Conditions that are not given are drawn together from the training samples that have the given ones. The draw of a
    map depends only on the seed and the number of the map.

    Args:
        given: "label" and "slice", the value for all maps or None.
        condition: names of the conditions that the model takes.
        table: the combinations of conditions that occur in the training data.
    Raises:
        UserError: no training sample has the given values.
    """
    columns = {name: None if value is None else torch.full((num,), value) for name, value in given.items()}
    taken = [name for name in NAMES if name in condition]
    if any(given[name] is None for name in taken):
        rows = find_rows(table, {name: given[name] for name in taken})
        counts = np.array([count for *_, count in rows])
        draws = [derive_seed(seed, "condition", index) / 2**63 for index in range(num)]
        picked = (counts.cumsum() / counts.sum()).searchsorted(draws, side="right").clip(max=len(rows) - 1)
        for name in taken:
            columns[name] = torch.tensor([rows[row][NAMES.index(name)] for row in picked])
    return MapConditions(**columns)


def find_rows(table: Sequence[ConditionRow], given: Mapping[str, int | None]) -> list[ConditionRow]:
    """Return the rows that have a value for every name of `given`, equal to the given value unless that is None."""

    def fits(row: ConditionRow) -> bool:
        values = {name: row[NAMES.index(name)] for name in given}
        return all(values[name] is not None and value in (None, values[name]) for name, value in given.items())

    rows = [row for row in table if fits(row)]
    if not rows:
        wanted = " and ".join(name if value is None else f"{name} {value}" for name, value in given.items())
        expected = "values that occur in the training data, or a value for every condition"
        raise UserError.of("conditions", f"no training sample with {wanted}", expected)
    return rows


def find_untrained_label(label: int | None, table: Sequence[ConditionRow], class_names: Sequence[str]) -> list[Problem]:
    """Return a problem if no training sample has the label: the model would sample from weights that never changed.

    Args:
        table: the combinations of conditions that occur in the training data; without labels nothing is known.
        class_names: name of each label; empty if unknown.
    """
    trained = sorted({row[0] for row in table if row[0] is not None})
    if label is None or not trained or label in trained:
        return []

    def describe(number: int) -> str:
        return f"{number} {class_names[number]}" if number < len(class_names) else str(number)

    expected = f"a class of the training data: {list_examples([describe(number) for number in trained])}"
    return [Problem("label", f"{describe(label)}, a class without a training sample", expected)]
