"""File names of any bytes become text that can be encoded."""

import os

import pytest

from vqdist.foundation.printable_text import printable


@pytest.mark.parametrize("name", ["a/b_0.png", "Maße.png", "日本/1.png", "back\\slash", ""])
def test_names_in_utf_8_are_unchanged(name: str) -> None:
    assert printable(name) == name


def test_other_bytes_are_escaped() -> None:
    assert printable(os.fsdecode(b"Ma\xdfe_0.png")) == r"Ma\xdfe_0.png"
    assert printable(os.fsdecode("é".encode() + b"\xe9\xff")) == r"é\xe9\xff"
    assert printable("\ud83d") == r"\ud83d"
