"""The conditions of code maps: rows, copies, checks and JSON values."""

import pytest
import torch

from vqdist.foundation.errors import UserError
from vqdist.models.map_conditions import MapConditions

LIMITS = {"label": 3, "slice": 20}


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
    assert known.describe(1) == {"label": 1, "slice": 5}
    assert MapConditions().describe(0) == {"label": None, "slice": None}


def test_they_go_to_a_device_together() -> None:
    moved = MapConditions(torch.arange(2), torch.arange(2)).to(torch.device("meta"))
    assert {values.device.type for values in moved.tensors().values()} == {"meta"}


def test_all_problems_are_found_together() -> None:
    known = MapConditions(label=torch.tensor([0, 3]), slice=torch.tensor([0, 1, 2]))
    found = [(problem.where, problem.found) for problem in known.find_problems(2, LIMITS, ["label", "slice"])]
    assert found == [("label", "3"), ("slice", "torch.int64 of shape (3,)")]
    assert known.find_problems(3, LIMITS, ["slice"])[0].expected == "none, as the model is not conditioned on label"
    assert MapConditions().find_problems(2, LIMITS, []) == []
    assert [problem.found for problem in MapConditions().find_problems(2, LIMITS, ["label"])] == ["none"]
