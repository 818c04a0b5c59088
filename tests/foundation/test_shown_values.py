"""Values in messages: as JSON and YAML spell them, and not too long."""

import datetime

import pytest

from vqdist.foundation.shown_values import show_found, show_type


@pytest.mark.parametrize(
    ("value", "shown", "kind"),
    [
        (None, "null", "null"),
        (True, "true", "true or false"),
        ("None", "'None'", "text"),
        ([None, False, "a"], '[null, false, "a"]', "a list"),
        ({"a": None}, '{"a": null}', "a mapping"),
        (1.5, "1.5", "a number"),
        (datetime.date(2020, 1, 2), '"2020-01-02"', "date"),
        ({datetime.date(2020, 1, 2): 1}, "{datetime.date(2020, 1, 2): 1}", "a mapping"),
    ],
)
def test_values_and_their_types(value: object, shown: str, kind: str) -> None:
    assert (show_found(value), show_type(value)) == (shown, kind)


def test_a_long_value_is_cut() -> None:
    assert len(show_found("x" * 10_000)) < 300
    assert len(show_found(list(range(10_000)))) < 300
