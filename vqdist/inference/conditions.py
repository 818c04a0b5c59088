"""Which label and slice number each new map gets: as asked, and what is not asked as it occurs in train."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vqdist.foundation.errors import CheckpointError, UserError
from vqdist.foundation.seeds import derive_seed

NAMES = ("label", "slice")
Row = tuple[int | None, int | None, int]  # label, slice number, samples of train that have both


@dataclass(frozen=True)
class Conditions:
    """The label and slice number of every map, (num,) int64; None where there is none."""

    label: Tensor | None
    slice: Tensor | None

    def of(self, maps: Sequence[int]) -> dict[str, Tensor]:
        """Return the conditions of some maps, as PixelCNN.sample takes them."""
        given = {"label": self.label, "slice": self.slice}
        return {name: values[list(maps)] for name, values in given.items() if values is not None}

    def describe(self, index: int) -> dict[str, int | None]:
        """Return the conditions of one map as JSON values."""
        given = {"label": self.label, "slice": self.slice}
        return {name: None if values is None else int(values[index]) for name, values in given.items()}


def draw_conditions(
    num: int, seed: int, *, asked: Mapping[str, int | None], condition: str, table: object, where: str
) -> Conditions:
    """Return the conditions of every map.

    What is not asked is drawn among the training samples that have what is asked, label and slice together.
    The draw of map i hangs on the seed and i alone.

    Args:
        asked: value of each of NAMES for all maps, or None.
        condition: what the prior is conditioned on.
        table: rows of (label, slice, count) of train, as a saved prior lists them.
        where: what to call the table in an error.
    Raises:
        UserError: the table is not one, or no training sample has what is asked.
    """
    columns = {name: None if value is None else torch.full((num,), value) for name, value in asked.items()}
    wanted = [name for name in NAMES if name in condition]
    if any(asked[name] is None for name in wanted):
        rows = find_rows(table, {name: asked[name] for name in wanted}, where=where)
        shares = np.cumsum([row[2] for row in rows]) / sum(row[2] for row in rows)
        draws = [derive_seed(seed, "condition", index) / 2**63 for index in range(num)]
        picked = shares.searchsorted(draws, side="right").clip(max=len(rows) - 1)
        for name in wanted:
            columns[name] = torch.tensor([rows[row][NAMES.index(name)] for row in picked])
    return Conditions(**columns)


def find_rows(table: object, given: Mapping[str, int | None], *, where: str) -> list[Row]:
    """Return the rows of the table that have what is given."""
    if not isinstance(table, list) or not all(_is_row(row, given) for row in table):
        raise CheckpointError.of(where, repr(table)[:80], "a list of [label, slice, count]")
    fitting = [
        tuple(row) for row in table if all(value in (None, row[NAMES.index(name)]) for name, value in given.items())
    ]
    if not fitting:
        told = ", ".join(f"{name} {value}" for name, value in given.items() if value is not None)
        raise UserError.of("conditions", told or "none in train", "what a training sample has, or a value for each")
    return fitting


def _is_row(row: Any, wanted: Mapping[str, int | None]) -> bool:
    match row:
        case [int() | None, int() | None, int(count)] if count > 0:
            return all(row[NAMES.index(name)] is not None for name in wanted)
    return False
