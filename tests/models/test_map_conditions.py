"""The conditions of code maps: rows, copies, checks and JSON values."""

import pytest
import torch

from vqdist.foundation.errors import UserError
from vqdist.models.map_conditions import UNKNOWN_NUMBER, MapConditions


def as_lists(known: MapConditions) -> dict[str, list[int]]:
    return {name: values.tolist() for name, values in known.tensors().items()}


def test_one_value_is_one_for_each_map() -> None:
    known = MapConditions.expand(3, label=2, slice=torch.tensor([4, 5, 6]))
    assert as_lists(known) == {"label": [2, 2, 2], "slice": [4, 5, 6]}
    assert as_lists(MapConditions.expand(3)) == {}
    with pytest.raises(UserError, match="whole number"):
        MapConditions.expand(3, label="cells")  # type: ignore[arg-type]


def test_maps_are_selected_and_repeated_in_order() -> None:
    known = MapConditions(label=torch.tensor([0, 1, 2]), slice=torch.tensor([4, 5, 6]))
    assert as_lists(known.select([2, 0, 2])) == {"label": [2, 0, 2], "slice": [6, 4, 6]}
    assert as_lists(known.select(range(1, 2))) == {"label": [1], "slice": [5]}
    assert as_lists(known.select([1, 2]).repeat(2)) == {"label": [1, 1, 2, 2], "slice": [5, 5, 6, 6]}
    assert as_lists(known.keep(["slice"])) == {"slice": [4, 5, 6]}


def test_they_go_to_a_device_together() -> None:
    moved = MapConditions(torch.arange(2), torch.arange(2)).to(torch.device("meta"))
    assert {values.device.type for values in moved.tensors().values()} == {"meta"}


def test_hidden_conditions_are_unknown() -> None:
    ages = torch.tensor([30.0, 60.0])
    known = MapConditions(torch.tensor([0, 1]), torch.tensor([4, 5]), {"age": ages})
    hidden = known.hide({"age": torch.tensor([True, False]), "label": True})
    assert hidden.label.tolist() == [UNKNOWN_NUMBER] * 2
    assert hidden.slice.tolist() == [4, 5]
    assert hidden.attributes["age"].isnan().tolist() == [True, False]
    joined = known.join(known.hide_all())
    assert joined.slice.tolist() == [4, 5, UNKNOWN_NUMBER, UNKNOWN_NUMBER]
    assert joined.attributes["age"].isnan().tolist() == [False, False, True, True]
    filled = MapConditions().fill(2, ["age"])
    assert filled.attributes["age"].isnan().all()
    assert known.fill(2, ["age"]) is known
