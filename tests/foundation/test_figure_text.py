"""Figures as text."""

from vqdist.foundation.figure_text import format_figure, format_summary


def test_numbers_have_four_digits() -> None:
    assert [format_figure(value) for value in (None, 0.33425621, 16384, 22.0)] == ["none", "0.3343", "16,384", "22"]


def test_a_summary_has_its_interval_if_there_is_one() -> None:
    assert format_summary({"mean": 0.5, "low": 0.25, "high": 0.75}) == "0.5  0.25 to 0.75"
    assert format_summary({"mean": None, "low": None, "high": None}, width=7) == "   none"
