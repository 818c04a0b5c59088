"""Wrapping of `--help`."""

import pytest

from vqdist.foundation.help_text import MAX_COLUMNS, read_columns, wrap_text

TEXT = """usage: vqdist some SOURCE [PART ...] --run PATH
This is a paragraph of words
that is filled anew.

    vqdist some command [--with options]
  name  a row of a table
        the help of an option with null|path
"""


def test_paragraphs_are_filled_and_indented_lines_stay_lines() -> None:
    assert wrap_text(TEXT, 40).splitlines() == [
        "usage: vqdist some SOURCE [PART ...]",
        "       --run PATH",
        "This is a paragraph of words that is",
        "filled anew.",
        "",
        "    vqdist some command [--with options]",
        "  name  a row of a table",
        "        the help of an option with",
        "        null|path",
    ]


@pytest.mark.parametrize("columns", range(40, 121, 7))
def test_no_line_is_longer_than_the_width_and_no_word_is_lost(columns: int) -> None:
    wrapped = wrap_text(TEXT, columns)
    assert max(map(len, wrapped.splitlines())) <= columns
    assert wrapped.split() == TEXT.split()


def test_the_width_is_that_of_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for columns, width in (("72", 72), ("300", MAX_COLUMNS), ("3", 40)):
        monkeypatch.setenv("COLUMNS", columns)
        assert read_columns() == width
