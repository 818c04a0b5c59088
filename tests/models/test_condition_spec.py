"""Conditions as callers give them: values by name, ranges, unknown values, and all problems together."""

import pytest
import torch

from vqdist.config.attributes import Attribute
from vqdist.foundation.errors import UserError
from vqdist.models.condition_spec import ConditionSpec
from vqdist.models.map_conditions import MapConditions

AGE = Attribute(kind="number", low=20, high=90, mean=50, std=10)
SEX = Attribute(kind="category", values=("F", "M"), unknown=1)
SPEC = ConditionSpec(("slice", "age", "sex"), 3, 20, {"age": AGE, "sex": SEX})
HIDING = ConditionSpec(("slice", "age", "sex"), 3, 20, {"age": AGE, "sex": SEX}, hides=True)


def test_values_are_expanded_and_encoded() -> None:
    known = SPEC.expand(2, slice=4, conditions={"age": 75.0, "sex": ["F", None]})
    assert known.slice.tolist() == [4, 4]
    assert known.attributes["age"].tolist() == [75, 75]
    assert known.attributes["sex"].nan_to_num(-1).tolist() == [0, -1]
    listed = SPEC.expand(2, conditions={"slice": torch.tensor([1, 2]), "age": torch.tensor([30.0, 40.0])})
    assert listed.slice.tolist() == [1, 2]
    assert listed.attributes["age"].tolist() == [30, 40]
    assert listed.attributes["sex"].isnan().all(), "not given, so unknown"
    assert SPEC.expand(2, slice=4, conditions={"age": 95}, extrapolate=True).attributes["age"].tolist() == [95, 95]


def test_every_problem_lists_what_there_is() -> None:
    with pytest.raises(UserError) as error:
        SPEC.expand(2, label=1, conditions={"age": 95, "sex": "X", "mmse": 3, "slice": 20})
    assert [str(problem) for problem in error.value.problems] == [
        "age: found 95; expected a number from 20 to 90, the range of the training data, or unknown",
        "sex: found 'X'; expected F, M or unknown",
        "mmse: found a value; expected one of the conditions of the model: slice, age, sex",
        "label: found a value; expected none, as the model is not conditioned on label",
        "slice: found 20; expected a number in [0, 20)",
    ]


def test_unknown_values_need_a_model_that_was_trained_with_them() -> None:
    with pytest.raises(UserError, match="age: found unknown"):
        SPEC.expand(2, slice=4)
    with pytest.raises(UserError, match="slice: found -1"):
        SPEC.expand(2, conditions={"slice": "unknown", "age": 30})
    known = HIDING.expand(2, conditions={"slice": "unknown"})
    assert known.slice.tolist() == [-1, -1]
    assert known.attributes["age"].isnan().all()


def test_shapes_and_objects_are_checked() -> None:
    with pytest.raises(UserError, match="age: found 3 values; expected one, or 2"):
        SPEC.expand(2, slice=4, conditions={"age": [30, 40, 50]})
    with pytest.raises(UserError, match="slice: found two values"):
        SPEC.expand(2, slice=4, conditions={"slice": 4, "age": 30})
    wrong = MapConditions(slice=torch.tensor([1, 2]), attributes={"age": torch.tensor([30, 40])})
    with pytest.raises(UserError, match=r"age: found torch\.int64"):
        SPEC.expand(2, conditions=wrong)
    with pytest.raises(UserError, match="slice: found a value beside MapConditions"):
        SPEC.expand(2, slice=4, conditions=MapConditions(slice=torch.tensor([1, 2])))
    outside = {"age": torch.tensor([30.0, 40.0]), "sex": torch.tensor([0.0, 2.0])}
    with pytest.raises(UserError, match=r"sex: found a category out of range; expected an index in \[0, 2\)"):
        SPEC.expand(2, conditions=MapConditions(slice=torch.tensor([1, 2]), attributes=outside))


def test_conditions_are_described_as_json_values() -> None:
    known = HIDING.expand(2, conditions={"slice": [4, 5], "age": 75, "sex": ["M", None]})
    assert HIDING.describe(known, 0) == {"label": None, "slice": 4, "attributes": {"age": 75.0, "sex": "M"}}
    assert HIDING.describe(known.hide_all(), 1) == {
        "label": None,
        "slice": None,
        "attributes": {"age": None, "sex": None},
    }


@pytest.mark.parametrize(
    ("spec", "expected"),
    [(SPEC, "trained with model.condition_dropout"), (ConditionSpec((), 3, 20), "the model takes no conditions")],
)
def test_guidance_needs_hidden_conditions(spec: ConditionSpec, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        spec.check_guidance(1.5)
    spec.check_guidance(0.0)
    HIDING.check_guidance(1.5)
