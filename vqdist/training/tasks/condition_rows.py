"""Conditions for the rows of a preview: one attribute varies, the others stay."""

from dataclasses import replace

import torch

from vqdist.config.attributes import Attribute, Attributes
from vqdist.models.map_conditions import MapConditions

NUMBERS_PER_ATTRIBUTE = 3
MAX_ROWS = 8


def vary_attributes(known: MapConditions, attributes: Attributes) -> list[MapConditions]:
    """Return the conditions with one attribute set to one of its values, for each value of each attribute.

    Args:
        known: conditions of the maps of a row.
        attributes: those of the model.
    """
    rows = []
    for name, attribute in attributes.items():
        for value in list_values(attribute):
            changed = {name: torch.full_like(known.attributes[name], value)}
            rows.append(replace(known, attributes={**known.attributes, **changed}))
    return rows[:MAX_ROWS]


def list_values(attribute: Attribute) -> list[float]:
    """Return the encoded categories, or numbers at equal distances over the range of the training data."""
    if attribute.kind == "category":
        return list(map(float, range(len(attribute.values))))
    numbers: list[float] = torch.linspace(attribute.low, attribute.high, NUMBERS_PER_ATTRIBUTE).tolist()
    return numbers
