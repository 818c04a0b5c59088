"""Attributes: their summary, their encoding, and the rows of the training data."""

import json
import math

import numpy as np
import pytest

from vqdist.config.attribute_json import read_attributes, read_rows, write_attributes
from vqdist.config.attributes import Attribute, AttributeRow, build_rows, count_values, select_attributes
from vqdist.foundation.errors import DataError
from vqdist.foundation.json_validation import Fields

AGE = Attribute(kind="number", low=20, high=90, mean=50, std=10)
SEX = Attribute(kind="category", values=("F", "M"), unknown=3)


def test_a_summary_has_the_statistics_of_all_samples() -> None:
    found = Attribute.summarize("number", {30.0: 2, 70.0: 1, None: 4})
    assert found is not None
    assert (found.low, found.high, found.unknown) == (30, 70, 4)
    assert found.mean == pytest.approx(np.mean([30, 30, 70]), abs=1e-6)
    assert found.std == pytest.approx(np.std([30, 30, 70]), abs=1e-6)
    assert Attribute.summarize("category", {"M": 1, None: 1, "F": 2}) == Attribute(
        kind="category", values=("F", "M"), unknown=1
    )
    assert Attribute.summarize("number", {None: 4}) is None


def test_values_are_encoded_and_decoded() -> None:
    assert [AGE.encode(33.5), SEX.encode("M")] == [33.5, 1.0]
    assert math.isnan(SEX.encode("X"))
    assert math.isnan(AGE.encode(None))
    assert [AGE.decode(33.5), SEX.decode(1.0), SEX.decode(math.nan)] == [33.5, "M", None]


@pytest.mark.parametrize(
    ("attribute", "value", "expected"),
    [
        (AGE, "75", 75.0),
        (AGE, "95", "age: found 95; expected a number from 20 to 90, the range of the training data, or unknown"),
        (AGE, "old", "age: found 'old'; expected a number from 20 to 90"),
        (AGE, "inf", "age: found inf; expected a number from 20 to 90"),
        (SEX, "F", 0.0),
        (SEX, "X", "age: found 'X'; expected F, M or unknown"),
        (SEX, "unknown", math.nan),
        (AGE, None, math.nan),
    ],
)
def test_values_of_a_user_are_checked(attribute: Attribute, value: object, expected: object) -> None:
    number, problems = attribute.parse("age", value)
    if isinstance(expected, str):
        assert [str(problem).startswith(expected) for problem in problems] == [True]
    else:
        assert (number, problems) == (pytest.approx(expected, nan_ok=True), [])


def test_extrapolation_is_asked_for() -> None:
    assert AGE.parse("age", 120, extrapolate=True) == (120, [])
    assert AGE.parse("age", "inf", extrapolate=True)[1]


def test_rows_join_neighbouring_slices() -> None:
    counts = {((70.0, "M"), None, number): 1 for number in (0, 1, 2, 5)}
    counts |= {((70.0, "M"), None, 6): 2, ((None, "F"), 1, None): 4, ((30.0, "F"), 0, 3): 1}
    rows = build_rows(counts)
    assert set(rows) == {
        AttributeRow((70.0, "M"), ((None, 0, 2, 1), (None, 5, 5, 1), (None, 6, 6, 2))),
        AttributeRow((None, "F"), ((1, None, None, 4),)),
        AttributeRow((30.0, "F"), ((0, 3, 3, 1),)),
    }
    listed = {(row.values, label, number): count for row in rows for label, number, count in row.list_conditions()}
    assert listed == counts
    assert count_values(rows, 0) == {70.0: 6, None: 4, 30.0: 1}


def test_json_is_read_back_and_checked() -> None:
    rows = (AttributeRow((70.0, "M"), ((None, 0, 2, 1),)), AttributeRow((None, None), ((1, None, None, 4),)))
    values = json.loads(json.dumps(write_attributes({"age": AGE, "sex": SEX}, rows)))
    top = Fields(values, "dataset.json")
    assert read_attributes(top) == {"age": AGE, "sex": SEX}
    assert read_rows(top, read_attributes(top)) == rows
    assert write_attributes({}, ()) == {}
    for change in (
        {"attributes": {"age": 3}},
        {"attributes": {"age": {"kind": "date"}}},
        {"attributes": {"sex": {"kind": "category", "values": []}}},
        {"attribute_rows": [[[70.0], [[None, 0, 2, 1]]]]},
        {"attribute_rows": [[["M", 70.0], [[None, 0, 2, 1]]]]},
        {"attribute_rows": [[[70.0, "M"], [[None, 2, 0, 1]]]]},
        {"attribute_rows": [[[70.0, "M"], [[None, 0, 2, 0]]]]},
        {"attribute_rows": [[[70.0, "M"], []]]},
        {"attribute_rows": [3]},
    ):
        top = Fields(values | change, "dataset.json")
        with pytest.raises(DataError, match=r"dataset\.json, attribute"):
            read_rows(top, read_attributes(top))


def test_of_attributes_that_are_not_chosen_nothing_is_left() -> None:
    age, sex = Attribute(kind="number", low=20, high=30), Attribute(kind="category", values=("F", "M"))
    counts = {((20.0, "F"), None, 3): 2, ((20.0, "M"), None, 3): 1, ((30.0, "M"), None, 4): 5}
    chosen, rows = select_attributes({"age": age, "sex": sex}, build_rows(counts), ["age"])
    assert chosen == {"age": age}
    assert rows == build_rows({((20.0,), None, 3): 3, ((30.0,), None, 4): 5})
    assert select_attributes({"age": age, "sex": sex}, build_rows(counts), []) == ({}, ())
