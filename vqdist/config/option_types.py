"""Types of the values of command-line options, with the checks that pydantic runs."""

import re
from typing import Annotated

from pydantic import BeforeValidator

from vqdist.config.section import expand_variables


def _require_text(value: object) -> object:
    if value == "":
        raise ValueError("text")
    return value


def _require_path(value: object) -> object:
    return expand_variables(_require_text(value))


def _require_pattern(value: object) -> object:
    try:
        re.compile(str(_require_text(value)))
    except re.error as error:
        raise ValueError(f"a regular expression ({error})") from error
    return value


def _parse_label(value: object) -> object:
    """Return a class number as int and the name of a class as str."""
    if isinstance(value, str) and value.removeprefix("-").isdecimal():
        return int(value)
    if value == "" or isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("the number or the name of a class")
    return value


Text = Annotated[str, BeforeValidator(_require_text)]
Place = Annotated[str, BeforeValidator(_require_path)]  # a path, or a word that stands for data
Pattern = Annotated[str, BeforeValidator(_require_pattern)]
ClassLabel = Annotated[int | str, BeforeValidator(_parse_label)]
