"""Files of the left and the right side of one person."""

import pytest

from vqdist.data.sources.body_sides import find_paired_names


def persons(*names: str) -> list[str | None]:
    found = find_paired_names({name: name for name in names})
    return [found.get(name) for name in names]


@pytest.mark.parametrize(
    ("left", "right", "person"),
    [
        ("100_left", "100_right", "100"),
        ("100-L", "100-R", "100"),
        ("7_OS", "7_OD", "7"),
        ("x7.lh", "x7.rh", "x7"),
        ("image_100_left", "image_100_right", "image_100"),
        ("100_left_2", "100_right_2", "100"),
        ("P_00001_LEFT_CC", "P_00001_RIGHT_CC", "P_00001"),
        ("left_100", "right_100", "100"),
        ("100left", "100right", "100"),
        ("anna_left", "anna_right", "anna"),
    ],
)
def test_both_sides_are_one_person(left: str, right: str, person: str) -> None:
    other = right.replace(person, "8")  # has one side only
    assert persons(left, right, other, "bob") == [person, person, "8", None]


@pytest.mark.parametrize(
    "names",
    [
        ("100_left", "101_left", "102_right"),
        ("left", "right"),
        ("image_left", "image_right"),
        ("100_left", "100_OD"),
        ("3fl", "3fr"),
        ("turn_left_1", "turn_right_1"),
    ],
)
def test_other_names_are_no_pairs(names: tuple[str, ...]) -> None:
    assert persons(*names) == [None] * len(names)


def test_words_that_occur_in_several_folders_are_no_persons() -> None:
    names = {f"{folder}/{name}": name for folder in ("anna", "bob") for name in ("eye_left", "eye_right", "7_left")}
    assert find_paired_names(names) == {"anna/7_left": "7", "bob/7_left": "7"}
