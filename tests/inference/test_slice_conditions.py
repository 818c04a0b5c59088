"""The conditions of slices: given, or those of the slices."""

from dataclasses import replace

import pytest
import torch

from vqdist.config.attributes import Attribute
from vqdist.foundation.errors import ConfigError
from vqdist.inference.slice_conditions import choose_conditions
from vqdist.inference.slice_source import SliceInfo
from vqdist.models.pixelcnn import PixelCNN


def test_conditions_are_given_or_those_of_the_slices() -> None:
    prior = PixelCNN(4, hidden=4, layers=1, condition="label+slice", num_labels=2, num_slices=9)
    infos = [SliceInfo("a", "a.png", "a", label=1, slice=3), SliceInfo("b", "b.png", "b", label=0, slice=4)]
    own = choose_conditions(prior, infos, {})
    assert torch.equal(own.label, torch.tensor([1, 0]))
    assert torch.equal(own.slice, torch.tensor([3, 4]))
    assert torch.equal(choose_conditions(prior, infos, {"slice": 8}).slice, torch.tensor([8, 8]))
    free = PixelCNN(4, hidden=4, layers=1)
    assert choose_conditions(free, infos, {}).select([0, 1]).tensors() == {}


def test_misfits_are_named() -> None:
    prior = PixelCNN(4, hidden=4, layers=1, condition="slice", num_slices=9)
    infos = [SliceInfo(f"a{number}", f"a{number}.png", "a") for number in range(7)]
    with pytest.raises(ConfigError) as error:
        choose_conditions(prior, infos, {})
    assert [problem.where for problem in error.value.problems] == [
        "7 slices, for example a0.png, a1.png, a2.png, a3.png, a4.png",
    ]
    infos = [replace(info, slice=9) for info in infos]
    with pytest.raises(ConfigError, match=r"7 slices.*a0.png \(9\).*found a slice number out of range.*in \[0, 9\)"):
        choose_conditions(prior, infos, {})


def test_attributes_are_given_or_those_of_the_slices() -> None:
    age, sex = Attribute(kind="number", low=20, high=90), Attribute(kind="category", values=("F", "M"))
    attributes = {"age": age, "sex": sex}
    prior = PixelCNN(4, hidden=4, layers=1, condition=["age", "sex"], attributes=attributes, condition_dropout=0.1)
    infos = [
        SliceInfo("a", "a.png", "a", attributes={"age": 95.0, "sex": "M"}),
        SliceInfo("b", "b.png", "b", attributes={"sex": "other"}),
    ]
    found = choose_conditions(prior, infos, {}).attributes
    assert found["age"].nan_to_num(-1).tolist() == [90, -1]
    assert found["sex"].nan_to_num(-1).tolist() == [1, -1]
    assert choose_conditions(prior, infos, {"age": 30.0}).attributes["age"].tolist() == [30, 30]
    strict = PixelCNN(4, hidden=4, layers=1, condition=["age"], attributes={"age": age})
    with pytest.raises(ConfigError, match=r"b\.png: found no age; expected one; give --condition age=VALUE"):
        choose_conditions(strict, infos, {})


def test_a_missing_label_lists_the_classes() -> None:
    prior = PixelCNN(4, hidden=4, layers=1, condition="label", num_labels=2)
    infos = [SliceInfo("a", "a.png", "a")]
    with pytest.raises(ConfigError, match=r"give --condition label=CLASS .*; the classes are 0 cells, 1 dots"):
        choose_conditions(prior, infos, {}, ["cells", "dots"])
    with pytest.raises(ConfigError, match=r"give --condition label=NUMBER for all slices$"):
        choose_conditions(prior, infos, {})
