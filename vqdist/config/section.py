"""The base of every configuration class: frozen fields with a default, a help text, a unit and a range, stated once.

YAML, flags, `--help`, the key tables and the constructors of the models are all derived from these fields. Nothing here
imports torch, so that `--help` returns at once.
"""

import difflib
import inspect
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from vqdist.foundation.errors import ConfigError, Problem, list_examples
from vqdist.foundation.shown_values import show_found

# error of pydantic -> what was expected
_KINDS = {
    "model_type": "a section with keys",
    "path_type": "a path",
    "string_type": "text",
    "tuple_type": "a list",
}
_NUMBERS = {
    **dict.fromkeys(("int_parsing", "int_type", "int_from_float", "int_parsing_size"), "int"),
    **dict.fromkeys(("float_parsing", "float_type"), "float"),
}
# error of pydantic -> name of the limit in its context, and the words for it
_BOUNDS = {
    "greater_than": ("gt", "above"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "below"),
    "less_than_equal": ("le", "at most"),
}
_VARIABLE = re.compile(r"\$\{(\w+)\}")
_OF_VALUES = {*_NUMBERS, *_BOUNDS, "literal_error"}  # errors for which it helps to know that null is a value too
# Texts of a boolean; the sweeps of W&B write the Python spelling.
TRUE_OR_FALSE = {"true": True, "True": True, "false": False, "False": False}
S = TypeVar("S", bound="Section")
C = TypeVar("C", bound=type)


def _refuse_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a number")
    return value


def _parse_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    if value in TRUE_OR_FALSE:
        return TRUE_OR_FALSE[value]
    raise ValueError("true or false")


def _parse_path(value: Any) -> Any:
    if value == "":  # Path("") would be the working directory
        raise ValueError("text")
    return expand_variables(value)


def expand_variables(value: Any) -> Any:
    """Return a path with ~ and ${VARIABLE} replaced; the parser of a path.

    Raises:
        ValueError: a variable in braces is not set.
    """
    if not isinstance(value, str):
        return value
    if unset := [name for name in _VARIABLE.findall(value) if name not in os.environ]:
        raise ValueError(f"environment variables that are set; {unset[0]} is not")
    return os.path.expanduser(_VARIABLE.sub(lambda match: os.environ[match[1]], value))


def _parse_choice(value: Any) -> Any:
    return int(value) if isinstance(value, str) and value.isdecimal() else value


Bool = Annotated[bool, BeforeValidator(_parse_boolean)]
Int = Annotated[int, BeforeValidator(_refuse_boolean)]
Real = Annotated[float, BeforeValidator(_refuse_boolean)]
FilePath = Annotated[Path, BeforeValidator(_parse_path)]
PathText = Annotated[str, BeforeValidator(expand_variables)]  # a path or a URL
IntChoice = BeforeValidator(_parse_choice)  # for a Literal of integers, which flags give as text


def key(default: Any, help: str, *, unit: str = "", positional: str = "", **limits: Any) -> Any:
    """Declare a field.

    Args:
        default: the default value; ... for a required field.
        help: one line for `--help` and the key tables.
        unit: of the value, for example "px".
        positional: the name of a positional argument of a command; empty for a flag.
        limits: ge, gt, le, lt, min_length or pattern.
    """
    return Field(default, description=help, json_schema_extra={"unit": unit, "positional": positional}, **limits)


class Section(BaseModel):
    """A group of keys. Frozen; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    def find_conflicts(self) -> list[Problem]:
        """Return the problems between keys of this section that are each valid alone."""
        return []


@dataclass(frozen=True)
class Key:
    """One key as `--help` and the key tables show it."""

    name: str
    type: str
    unit: str
    default: Any
    help: str
    positional: str = ""
    required: bool = False


def list_fields(section: type[Section]) -> Iterator[Key]:
    """Yield the keys of a section in their order."""
    for name, field in section.model_fields.items():
        extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        yield Key(
            name,
            _type_name(field.annotation),
            str(extra.get("unit", "")),
            field.default,
            field.description or "",
            str(extra.get("positional", "")),
            field.is_required(),
        )


def _type_name(annotation: Any) -> str:
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return "|".join(map(str, args))
    if origin is tuple:
        return "list"
    if origin is Annotated:
        return _type_name(args[0])
    if origin in (Union, UnionType):
        return "|".join("null" if part is type(None) else _type_name(part) for part in args)
    return {"str": "text", "bool": "true|false", "Path": "path"}.get(annotation.__name__, annotation.__name__)


def validate(
    section: type[S], values: Mapping[str, Any], name_of: Callable[[tuple[int | str, ...]], str]
) -> tuple[S | None, list[Problem]]:
    """Build a section and return it with every problem that was found.

    Args:
        values: nested values, as YAML or flags give them.
        name_of: location of a value -> its name in a problem.
    Returns:
        The section, where values with a problem are replaced by their defaults, so that the caller can look for more
        problems; None if a required value is missing or wrong.
    """
    values = {name: dict(value) if isinstance(value, dict) else value for name, value in values.items()}
    try:
        return section.model_validate(values), []
    except ValidationError as error:
        details = error.errors()
    for detail in details:
        _remove(values, *detail["loc"][:2])
    problems = {}
    for detail in reversed(details):
        name = name_of(detail["loc"])
        problem = _describe_error(name, detail)
        takes_null = detail["type"] in _OF_VALUES and _takes_null(section, detail["loc"])
        problems[name] = _add_null(problem) if takes_null else problem
    try:
        return section.model_validate(values), list(reversed(problems.values()))
    except ValidationError:
        return None, list(reversed(problems.values()))


def _remove(values: dict[Any, Any], first: int | str, second: int | str | None = None) -> None:
    inner = values.get(first)
    if second is None or not isinstance(inner, dict):
        values.pop(first, None)
    else:
        inner.pop(second, None)


def _takes_null(section: type[Section], location: tuple[int | str, ...]) -> bool:
    annotation: Any = section
    for name in location:
        if not (isinstance(annotation, type) and issubclass(annotation, Section)):
            break
        field = annotation.model_fields.get(str(name))
        annotation = None if field is None else field.annotation
    return type(None) in get_args(annotation)


def _add_null(problem: Problem) -> Problem:
    """Return the problem with null as one more of the expected values: "a, b or null"."""
    return replace(problem, expected=f"{problem.expected.replace(' or ', ', ')} or null")


def _describe_error(name: str, detail: ErrorDetails) -> Problem:
    found, context = detail["input"], detail.get("ctx", {})
    shown = show_found(found)
    match detail["type"]:
        case kind if kind in _BOUNDS:
            limit, words = _BOUNDS[kind]
            return Problem(name, str(found), f"{words} {context[limit]}")
        case "missing":
            return Problem(name, "nothing", "a value: it is required")
        case "literal_error":
            return Problem(name, shown, str(context["expected"]).replace("'", ""))
        case kind if kind in _NUMBERS:
            return Problem(name, shown, _NUMBERS[kind])
        case "finite_number":
            return Problem(name, str(found), "a finite number")
        case "string_too_short":
            return Problem(name, "nothing", "text")
        case kind if kind in _KINDS:
            return Problem(name, shown, _KINDS[kind])
        case "string_pattern_mismatch":
            return Problem(name, shown, "a name of letters, digits, '.', '_' and '-'")
        case "value_error":
            return Problem(name, "nothing" if found == "" else shown, str(context["error"]))
    return Problem(name, shown, detail["msg"][0].lower() + detail["msg"][1:])


def build_section(section: type[S], values: Mapping[str, Any], prefix: str = "") -> S:
    """Build a section from keyword arguments of Python.

    Args:
        prefix: precedes the names of the keys in the error.
    Raises:
        ConfigError: unknown keys, or values out of range; all of them.
    """
    known = {name: value for name, value in values.items() if name in section.model_fields}
    built, problems = validate(section, known, lambda location: prefix + str(location[0]))
    problems += built.find_conflicts() if built is not None else []
    for name in values.keys() - known.keys():
        near = difflib.get_close_matches(name, section.model_fields, n=1)
        hint = f"did you mean {near[0]}?" if near else f"one of {list_examples(section.model_fields)}"
        problems.append(Problem(prefix + name, "an unknown key", f"a known key; {hint}"))
    if problems or built is None:
        raise ConfigError(problems)
    return built


def takes_keys(section: type[Section]) -> Callable[[C], C]:
    """Return a class decorator that gives a constructor with **keys the signature and documentation of a section."""

    def decorate(cls: C) -> C:
        own = list(inspect.signature(cls).parameters.values())
        own = [parameter for parameter in own if parameter.kind is not inspect.Parameter.VAR_KEYWORD]
        taken = {parameter.name for parameter in own}
        keys = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field.annotation)
            for name, field in section.model_fields.items()
            if name not in taken
        ]
        cls.__signature__ = inspect.Signature([*own, *keys])  # type: ignore[attr-defined]
        lines = [f"    {found.name}: {_describe_key(section.model_fields[found.name])}" for found in keys]
        cls.__doc__ = f"{inspect.cleandoc(cls.__doc__ or '')}\n\nKeys (of {section.__name__}):\n" + "\n".join(lines)
        return cls

    return decorate


def _describe_key(field: FieldInfo) -> str:
    return f"{field.description} (default: {field.default})"
