"""Slices from pictures and datasets, with their subjects, slice numbers and conditions."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import write_images

from vqdist.data.sources.pictures import load_picture
from vqdist.foundation.errors import DataError, Problem, UserError
from vqdist.inference.slice_source import (
    list_pictures,
    open_pictures,
    open_split,
    shorten,
)


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


def test_long_lists_are_shortened() -> None:
    problems = [Problem(str(number), "a", "b") for number in range(9)]
    assert [problem.where for problem in shorten(problems)] == ["0", "1", "2", "3", "4", "more files"]
    assert shorten(problems)[-1].found == "4 with similar problems"
    assert shorten(problems[:5]) == problems[:5]


def test_equal_problems_are_one_with_a_count() -> None:
    problems = [Problem("mask.png", "no white pixel", "white"), Problem("b", "x", "y")]
    assert [str(problem) for problem in shorten([problems[0]] * 40 + problems[1:])] == [
        "mask.png: found no white pixel, for 40 slices; expected white",
        "b: found x; expected y",
    ]
