"""The values of the augmentation keys, also those of earlier versions and `auto`, which the dataset decides."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

Mirror = Literal["none", "up-down", "left-right"]
AUTO_CROP = 96  # pixels; chosen in launch/README.md, "Choice of vqvae_oasis"

_FORMER_NAMES = {"rows": "up-down", "columns": "left-right"}
# The first configurations could only mirror the columns.
_BOOLEANS = {"false": "none", "true": "left-right"}


def read_former_name(value: Any) -> Any:
    """Return the current name of a mirroring: up-down for rows, left-right for columns."""
    return _FORMER_NAMES.get(value, value) if isinstance(value, str) else value


def _parse_mirror(value: Any) -> Any:
    return _BOOLEANS.get(str(value).lower(), read_former_name(value))


def _parse_crop(value: Any) -> Any:
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    if value in (None, "auto") or (type(value) is int and value >= 1):
        return value
    raise ValueError("a number of at least 1, auto or null")


MirrorKey = Annotated[Literal["auto", "none", "up-down", "left-right"], BeforeValidator(_parse_mirror)]
CropKey = Annotated[int | Literal["auto"] | None, BeforeValidator(_parse_crop)]
SymmetryKey = Annotated[Literal["auto", "none", "up-down"], BeforeValidator(read_former_name)]
