"""Slices from pictures and datasets, with their subjects, slice numbers and conditions."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support import write_images

from vqdist.config.attributes import Attribute
from vqdist.data.sources.pictures import load_picture
from vqdist.foundation.errors import ConfigError, DataError, Problem, UserError
from vqdist.inference.slice_source import (
    SliceInfo,
    choose_conditions,
    list_pictures,
    open_pictures,
    open_split,
    shorten,
)
from vqdist.models.pixelcnn import PixelCNN


def test_pictures(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 5, 3), np.uint8)
    for name in ("case_7_slice_12.nii.png", "a/x.png", "a/y.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / name)
    paths = list_pictures(tmp_path, without=[tmp_path / "a" / "y.png"])
    source = open_pictures(tmp_path, paths, channels=3)
    found = [(info.key, info.subject, info.slice) for info in source.infos]
    assert found == [("a-x", "a-x", None), ("case_7_slice_12", "case_7", 12)]
    np.testing.assert_array_equal(source.read(1), pixels.transpose(2, 0, 1))
    grey = open_pictures(tmp_path, paths, channels=1)
    np.testing.assert_array_equal(
        grey.read(1)[:, :5], load_picture(paths[1], image_size=7, channels=1)[:, :5, 1:6][:, :5]
    )


def test_pictures_that_cannot_be_read_are_named_together(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"nothing")
    with pytest.raises(DataError) as error:
        open_pictures(tmp_path, list_pictures(tmp_path), channels=1)
    assert [problem.where for problem in error.value.problems] == [str(tmp_path / "a.png"), str(tmp_path / "b.png")]


def test_a_split_of_a_dataset(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images")
    source = open_split(images, "test", channels=1)
    assert [(info.key, info.subject, info.slice, info.label) for info in source.infos][:4] == [
        *[(f"s5_{number}", "s05", number, 1) for number in (0, 10, 20)],
        ("s6_0", "s06", 0, 0),
    ]
    assert source.read(8).shape == (1, 32, 32)
    with pytest.raises(UserError, match="channels: found 1; expected 3"):
        open_split(images, "test", channels=3)
    with pytest.raises(UserError, match="no split 'other'"):
        open_split(images, "other", channels=1)


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


def test_long_lists_are_shortened() -> None:
    problems = [Problem(str(number), "a", "b") for number in range(9)]
    assert [problem.where for problem in shorten(problems)] == ["0", "1", "2", "3", "4", "more files"]
    assert shorten(problems)[-1].found == "4 with similar problems"
    assert shorten(problems[:5]) == problems[:5]
