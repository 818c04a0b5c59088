"""The conditions of each map that a PixelCNN samples: given, or drawn from the training data."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch

from vqdist.config.condition_key import NUMBERS
from vqdist.foundation.errors import Problem, UserError, list_examples
from vqdist.foundation.seeds import derive_seed
from vqdist.models.condition_spec import ConditionSpec
from vqdist.models.map_conditions import UNKNOWN_NUMBER, MapConditions
from vqdist.models.model_card import DataDescription

Value = int | float  # encoded as in MapConditions
NEAR_STD = 0.5  # training samples count as similar in a number up to this many standard deviations away


@dataclass(frozen=True)
class TrainRow:
    """The conditions that some training samples share.

    Attributes:
        values: name -> value, encoded; None for a label or slice number that they do not have.
        count: number of samples.
    """

    values: Mapping[str, Value | None]
    count: int


def list_train_rows(data: DataDescription, spec: ConditionSpec) -> list[TrainRow]:
    """Return the combinations of conditions in the training data of a model."""
    if not spec.attributes:
        return [TrainRow({"label": label, "slice": number}, count) for label, number, count in data.conditions or ()]
    rows = []
    for row in data.attribute_rows:
        found = dict(zip(data.attributes, row.values, strict=True))
        encoded = {name: attribute.encode(found.get(name)) for name, attribute in spec.attributes.items()}
        rows += [
            TrainRow({"label": label, "slice": number, **encoded}, count)
            for label, number, count in row.list_conditions()
        ]
    return rows


def draw_conditions(
    num: int, seed: int, *, given: Mapping[str, Sequence[Value]], spec: ConditionSpec, rows: Sequence[TrainRow]
) -> MapConditions:
    """Return the conditions of `num` maps.

    Conditions that are not given are drawn together from the training samples that have the given ones. The draw of a
    map depends only on the seed and its number. Maps take the combinations of several given values in turn; those of
    one round share the draw.

    Args:
        given: name -> values for the maps.
        rows: the combinations of conditions that occur in the training data.
    Raises:
        UserError: no training sample has the given values.
    """
    combinations = list(product(*given.values()))
    missing = [name for name in spec.names if name not in given]
    columns: dict[str, list[Value]] = {name: [] for name in (*given, *missing)}
    found = [_Draw(rows, dict(zip(given, values, strict=True)), missing, spec) for values in combinations]
    for index in range(num):
        number, place = divmod(index, len(combinations))
        drawn = found[place].take(derive_seed(seed, "condition", number) / 2**63)
        for name, value in (*zip(given, combinations[place], strict=True), *drawn.items()):
            columns[name].append(value)
    return to_conditions(columns)


def to_conditions(columns: Mapping[str, Sequence[Value]]) -> MapConditions:
    """Return conditions of encoded values by name, one for each map."""
    numbers = {name: torch.tensor(columns[name], dtype=torch.int64) for name in NUMBERS if name in columns}
    attributes = {
        name: torch.tensor(values, dtype=torch.float32) for name, values in columns.items() if name not in NUMBERS
    }
    return MapConditions(numbers.get("label"), numbers.get("slice"), attributes)


class _Draw:
    """The training samples from which the missing conditions of maps with given ones are drawn."""

    def __init__(
        self, rows: Sequence[TrainRow], given: Mapping[str, Value], missing: Sequence[str], spec: ConditionSpec
    ) -> None:
        self._missing = list(missing)
        self._rows = find_rows(rows, given, missing, spec) if missing else []
        counts = np.array([row.count for row in self._rows])
        self._shares = counts.cumsum() / counts.sum() if missing else counts

    def take(self, draw: float) -> dict[str, Value]:
        """Return the missing conditions for a draw in [0, 1)."""
        if not self._missing:
            return {}
        row = self._rows[min(int(self._shares.searchsorted(draw, side="right")), len(self._rows) - 1)]
        return {name: value for name in self._missing if (value := row.values[name]) is not None}


def find_rows(
    rows: Sequence[TrainRow], given: Mapping[str, Value], missing: Sequence[str], spec: ConditionSpec
) -> list[TrainRow]:
    """Return the rows that have a label and slice number if these are missing, and the given conditions.

    Labels, slice numbers and categories must be equal. Numbers such as an age may be NEAR_STD standard deviations away;
    if none is so near, the nearest ones are taken. An unknown condition fits every row.

    Raises:
        UserError: no row fits.
    """
    exact = {
        name: value
        for name, value in given.items()
        if name in spec.names and value != UNKNOWN_NUMBER and not math.isnan(value) and not _is_number(name, spec)
    }
    fitting = [
        row
        for row in rows
        if all(row.values[name] is not None for name in missing if name in NUMBERS)
        and all(row.values[name] == value for name, value in exact.items())
    ]
    if not fitting:
        expected = "values that occur in the training data, or a value for every condition"
        raise UserError.of("conditions", f"no training sample with {_describe(exact, missing, spec)}", expected)
    for name, value in given.items():
        if _is_number(name, spec) and not math.isnan(value):
            fitting = _find_near(fitting, name, value, NEAR_STD * spec.attributes[name].std)
    return fitting


def _is_number(name: str, spec: ConditionSpec) -> bool:
    return name in spec.attributes and spec.attributes[name].kind == "number"


def _find_near(rows: Sequence[TrainRow], name: str, value: float, reach: float) -> list[TrainRow]:
    distances = [abs(float(row.values[name] or 0.0) - value) for row in rows]
    least = min((distance for distance in distances if not math.isnan(distance)), default=math.nan)
    near = [row for row, distance in zip(rows, distances, strict=True) if distance <= max(reach, least)]
    return near or list(rows)


def _describe(exact: Mapping[str, Value], missing: Sequence[str], spec: ConditionSpec) -> str:
    words = []
    for name in spec.names:
        if name in exact:
            attribute = spec.attributes.get(name)
            words.append(f"{name} {exact[name] if attribute is None else attribute.decode(float(exact[name]))}")
        elif name in missing and name in NUMBERS:
            words.append(name)
    return " and ".join(words) or "any conditions"


def find_untrained_slice(slices: Sequence[Value], rows: Sequence[TrainRow]) -> list[Problem]:
    """Return a problem if no training sample has one of the slice numbers: their weights never changed.

    Args:
        rows: the combinations of conditions that occur in the training data; without slice numbers nothing is known.
    """
    trained = list_trained_slices(rows)
    wrong = [int(number) for number in slices if number not in trained and number != UNKNOWN_NUMBER]
    if not wrong or not trained:
        return []
    return [Problem("slice", f"{wrong[0]}, a number without a training sample", describe_slices(trained))]


def list_trained_slices(rows: Sequence[TrainRow]) -> list[int]:
    """Return the slice numbers of the training samples in ascending order."""
    return sorted({int(number) for row in rows if (number := row.values["slice"]) is not None})


def describe_slices(numbers: Sequence[int]) -> str:
    """Return ascending slice numbers as text: `10 to 17` without gaps, else a list."""
    if len(numbers) > 1 and numbers[-1] - numbers[0] == len(numbers) - 1:
        return f"{numbers[0]} to {numbers[-1]}"
    return list_examples(numbers)


def find_untrained_label(
    labels: Sequence[Value], rows: Sequence[TrainRow], class_names: Sequence[str]
) -> list[Problem]:
    """Return a problem if no training sample has one of the labels: their weights never changed.

    Args:
        rows: the combinations of conditions that occur in the training data; without labels nothing is known.
        class_names: name of each label; empty if unknown.
    """
    trained = sorted({int(label) for row in rows if (label := row.values["label"]) is not None})
    wrong = [int(label) for label in labels if label not in trained and label != UNKNOWN_NUMBER]
    if not wrong or not trained:
        return []

    def describe(number: int) -> str:
        return f"{number} {class_names[number]}" if number < len(class_names) else str(number)

    expected = f"a class of the training data: {list_examples([describe(number) for number in trained])}"
    return [Problem("label", f"{describe(wrong[0])}, a class without a training sample", expected)]
