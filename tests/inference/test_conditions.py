"""Conditions of sampled maps: given ones are kept, the others occur as in train."""

import pytest

from vqdist.foundation.errors import UserError
from vqdist.inference.conditions import draw_conditions, find_untrained_label

TABLE = [(0, 3, 10), (0, 7, 30), (1, 3, 60)]


def draw(num: int, label: int | None = None, slice: int | None = None, **changes: object) -> list[tuple[object, ...]]:
    options = {"condition": "label+slice", "table": TABLE} | changes
    drawn = draw_conditions(num, 0, given={"label": label, "slice": slice}, **options)
    return [tuple(drawn.describe(index).values()) for index in range(num)]


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
    assert set(draw(50, condition="slice", table=[(None, 3, 10)])) == {(None, 3)}
    assert set(draw(50, condition="none", table=[])) == {(None, None)}
    selected = draw_conditions(5, 0, given={"label": None, "slice": 4}, condition="slice", table=TABLE).select([1, 1])
    assert {name: values.tolist() for name, values in selected.tensors().items()} == {"slice": [4, 4]}


def test_a_label_without_a_training_sample_is_named() -> None:
    table = [(0, None, 3), (2, None, 4)]
    assert [str(problem) for problem in find_untrained_label(1, table, ("cat", "images", "dog"))] == [
        "label: found 1 images, a class without a training sample; expected a class of the training data: 0 cat, 2 dog"
    ]
    (problem,) = find_untrained_label(1, table, ())
    assert problem.found == "1, a class without a training sample"
    for label, rows in ((2, table), (None, table), (1, []), (1, [(None, 3, 10)])):
        assert find_untrained_label(label, rows, ()) == []
