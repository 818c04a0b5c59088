"""The words of --condition, NAME=VALUE each, as encoded values of the conditions of a model."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace

from vqdist.config.attributes import UNKNOWN
from vqdist.config.condition_key import NUMBERS
from vqdist.foundation.errors import ConfigError, Problem
from vqdist.inference.class_labels import describe_classes
from vqdist.inference.conditions import Value
from vqdist.models.condition_spec import ConditionSpec
from vqdist.models.map_conditions import UNKNOWN_NUMBER

FLAG = "--condition"


def split_words(texts: Sequence[str]) -> dict[str, str]:
    """Return the value of each name, as text.

    Raises:
        ConfigError: a word that is not NAME=VALUE, or a name twice; every problem.
    """
    found: dict[str, str] = {}
    problems = []
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not name or not equals or not value:
            problems.append(Problem(FLAG, repr(text), "NAME=VALUE, such as age=75 or sex=F"))
        elif name in found:
            problems.append(Problem(FLAG, f"{name} twice", "each name once; several values are NAME=A,B,C"))
        else:
            found[name] = value
    if problems:
        raise ConfigError(problems)
    return found


def read_words(
    words: Mapping[str, str],
    spec: ConditionSpec,
    class_names: Sequence[str] = (),
    *,
    several: bool = False,
    extrapolate: bool = False,
) -> dict[str, list[Value]]:
    """Return the encoded values of each name.

    Args:
        words: name -> value as text.
        class_names: name of each label; empty if unknown.
        several: of `vqdist sample`, where a value may be a list with commas, and which has --extrapolate.
        extrapolate: accept numbers outside of the range of the training data.
    Raises:
        ConfigError: a name that the model does not take, or a value that it does not know; every problem.
    """
    found: dict[str, list[Value]] = {}
    problems: list[Problem] = []
    for name, text in words.items():
        if name not in spec.names:
            problems.append(Problem(f"{FLAG} {name}", text, _expect_name(name, spec)))
            continue
        attribute = spec.attributes.get(name)
        whole = (attribute is not None and text in attribute.values) or text in class_names
        parts = [part.strip() for part in text.split(",")] if several and not whole else [text]
        found[name] = []
        for part in parts:
            value, wrong = _read(name, part, spec, class_names, extrapolate=extrapolate)
            found[name].append(value)
            offers_range = several and not extrapolate and attribute is not None and attribute.kind == "number"
            hint = "; --extrapolate true accepts others" if offers_range else ""
            if "=" in part:
                hint = f"; conditions are separated by spaces: {FLAG} age=75 sex=F"
            problems += [replace(one, where=f"{FLAG} {name}", expected=one.expected + hint) for one in wrong]
    if problems:
        raise ConfigError(problems)
    return found


def _expect_name(name: str, spec: ConditionSpec) -> str:
    """Return what is expected instead of a name that the prior does not take."""
    expected = f"one of the conditions of the prior: {', '.join(spec.names)}" if spec.names else "none"
    near = difflib.get_close_matches(name.lower(), spec.names, n=1)
    hint = f"did you mean {near[0]}?" if near else "model.condition chooses the conditions when a prior is trained"
    return f"{expected}; the prior takes no {name}; {hint}"


def _read(
    name: str, text: str, spec: ConditionSpec, class_names: Sequence[str], *, extrapolate: bool
) -> tuple[Value, list[Problem]]:
    if name not in NUMBERS:
        value, problems = spec.attributes[name].parse(name, text, extrapolate=extrapolate)
    elif text == UNKNOWN:
        return UNKNOWN_NUMBER, [] if spec.hides else [Problem(name, text, "a number")]
    else:
        return _read_number(name, text, spec, class_names)
    if not problems and value != value and not spec.takes_unknown(name):
        expected = "a value: the prior was trained without unknown values, and without model.condition_dropout"
        problems = [Problem(name, text, expected)]
    return value, problems


def _read_number(name: str, text: str, spec: ConditionSpec, class_names: Sequence[str]) -> tuple[Value, list[Problem]]:
    limit = spec.num_labels if name == "label" else spec.num_slices
    classes = f": {describe_classes(class_names)}" if name == "label" and class_names else ""
    if name == "label" and text in class_names:
        return class_names.index(text), []
    if text.isdecimal() and int(text) < limit:
        return int(text), []
    return 0, [Problem(name, text, f"a number in [0, {limit}){classes}")]
