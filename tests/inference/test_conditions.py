"""Conditions of sampled maps: given ones are kept, the others occur as in train."""

from collections.abc import Sequence

import pytest
import torch

from vqdist.config.attributes import Attribute, AttributeRow
from vqdist.foundation.errors import UserError
from vqdist.inference.conditions import (
    TrainRow,
    draw_conditions,
    find_rows,
    find_untrained_label,
    find_untrained_slice,
    list_train_rows,
)
from vqdist.models.condition_spec import ConditionSpec
from vqdist.models.model_card import DataDescription

TABLE = [(0, 3, 10), (0, 7, 30), (1, 3, 60)]
AGE = Attribute(kind="number", low=20, high=90, mean=50, std=20)
SEX = Attribute(kind="category", values=("F", "M"))


def as_rows(table: Sequence[tuple[int | None, int | None, int]]) -> list[TrainRow]:
    return [TrainRow({"label": label, "slice": number}, count) for label, number, count in table]


def draw(
    num: int,
    label: int | None = None,
    slice: int | None = None,
    *,
    names: tuple[str, ...] = ("label", "slice"),
    table: Sequence[tuple[int | None, int | None, int]] = TABLE,
) -> list[tuple[object, ...]]:
    spec = ConditionSpec(names, 5, 20)
    given = {name: [value] for name, value in (("label", label), ("slice", slice)) if value is not None}
    drawn = draw_conditions(num, 0, given=given, spec=spec, rows=as_rows(table))
    return [tuple(spec.describe(drawn, index).values()) for index in range(num)]


def test_conditions_occur_as_in_train() -> None:
    pairs = draw(4000)
    for label, number, count in TABLE:
        assert pairs.count((label, number)) / 4000 == pytest.approx(count / 100, abs=0.03)
    assert draw(10) == pairs[:10]


def test_a_given_condition_restricts_the_other() -> None:
    assert set(draw(50, 0, None)) == {(0, 3), (0, 7)}
    assert set(draw(50, None, 7)) == {(0, 7)}
    assert set(draw(50, 1, 7)) == {(1, 7)}  # does not occur in train, but nothing has to be drawn


def test_values_that_do_not_occur_are_named() -> None:
    with pytest.raises(UserError, match="no training sample with label 2 and slice"):
        draw(2, 2, None)
    with pytest.raises(UserError, match="no training sample with label and slice"):
        draw(2, table=[])
    with pytest.raises(UserError, match="no training sample with label and slice 3"):
        draw(2, None, 3, table=[(None, 3, 10)])


def test_conditions_that_the_model_does_not_take_are_not_drawn() -> None:
    assert set(draw(50, names=("slice",), table=[(None, 3, 10)])) == {(None, 3)}
    assert set(draw(50, names=(), table=[])) == {(None, None)}
    assert set(draw(5, slice=4, names=("slice",))) == {(None, 4)}


def test_a_label_without_a_training_sample_is_named() -> None:
    table = as_rows([(0, None, 3), (2, None, 4)])
    assert [str(problem) for problem in find_untrained_label([1], table, ("cat", "images", "dog"))] == [
        "label: found 1 images, a class without a training sample; expected a class of the training data: 0 cat, 2 dog"
    ]
    (problem,) = find_untrained_label([1], table, ())
    assert problem.found == "1, a class without a training sample"
    for labels, rows in (([2], table), ([], table), ([1], []), ([1], as_rows([(None, 3, 10)]))):
        assert find_untrained_label(labels, rows, ()) == []


def test_a_slice_number_without_a_training_sample_is_named() -> None:
    table = as_rows([(0, number, 3) for number in range(17, 9, -1)])
    assert [str(problem) for problem in find_untrained_slice([10, 3], table)] == [
        "slice: found 3, a number without a training sample; expected 10 to 17"
    ]
    (problem,) = find_untrained_slice([10], as_rows(TABLE))
    assert problem.expected == "3, 7"
    for slices, rows in (([17, -1], table), ([], table), ([3], []), ([3], as_rows([(0, None, 3)]))):
        assert find_untrained_slice(slices, rows) == []


def build_people() -> tuple[ConditionSpec, list[TrainRow]]:
    """Return a spec and the rows of three people, whose sex follows from their age."""
    spec = ConditionSpec(("slice", "age", "sex"), 5, 20, {"age": AGE, "sex": SEX})
    people = (
        AttributeRow((25.0, "F"), ((None, 0, 3, 1),)),
        AttributeRow((70.0, "M"), ((None, 2, 3, 5),)),
        AttributeRow((80.0, None), ((None, 3, 3, 1),)),
    )
    return spec, list_train_rows(DataDescription(attributes={"age": AGE, "sex": SEX}, attribute_rows=people), spec)


def test_attributes_are_drawn_as_rows_of_the_table() -> None:
    spec, rows = build_people()
    drawn = draw_conditions(3000, 0, given={}, spec=spec, rows=rows)
    found = [tuple(spec.describe(drawn, index)["attributes"].values()) for index in range(3000)]
    assert set(found) == {(25.0, "F"), (70.0, "M"), (80.0, None)}
    assert found.count((70.0, "M")) / 3000 == pytest.approx(10 / 15, abs=0.03)
    slices = {int(number) for number, age in zip(drawn.slice, drawn.attributes["age"], strict=True) if age == 25}
    assert slices == {0, 1, 2, 3}


def test_a_given_age_restricts_the_others_to_people_of_about_that_age() -> None:
    spec, rows = build_people()
    assert {row.values["age"] for row in find_rows(rows, {"age": 66.0}, ["sex"], spec)} == {70.0}
    assert {row.values["age"] for row in find_rows(rows, {"age": 76.0}, ["sex"], spec)} == {70.0, 80.0}
    assert {row.values["age"] for row in find_rows(rows, {"age": 45.0}, ["sex"], spec)} == {25.0}  # the nearest
    assert {row.values["age"] for row in find_rows(rows, {"sex": 1.0}, ["slice"], spec)} == {70.0}
    with pytest.raises(UserError, match="no training sample with slice 9"):
        find_rows(rows, {"slice": 9}, ["age"], spec)


def test_maps_take_several_values_in_turn_and_share_the_other_draws() -> None:
    spec, rows = build_people()
    drawn = draw_conditions(40, 0, given={"age": [20.0, 90.0]}, spec=spec, rows=rows)
    assert drawn.attributes["age"].tolist() == [20.0, 90.0] * 20
    alone = draw_conditions(20, 0, given={"age": [90.0]}, spec=spec, rows=rows)
    assert drawn.slice[1::2].tolist() == alone.slice.tolist()
    assert torch.equal(drawn.attributes["sex"][1::2].nan_to_num(-1), alone.attributes["sex"].nan_to_num(-1))
