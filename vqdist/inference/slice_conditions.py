"""The conditions of the slices that `vqdist complete` and `vqdist score` work on: given, or those of the slices."""

import math
from collections.abc import Mapping, Sequence

from vqdist.config.condition_key import NUMBERS
from vqdist.foundation.errors import ConfigError, Problem
from vqdist.inference.class_labels import describe_classes
from vqdist.inference.conditions import Value, to_conditions
from vqdist.inference.slice_source import SliceInfo, name_examples
from vqdist.models.condition_spec import ConditionSpec
from vqdist.models.map_conditions import UNKNOWN_NUMBER, MapConditions
from vqdist.models.pixelcnn import PixelCNN


def choose_conditions(
    prior: PixelCNN, infos: Sequence[SliceInfo], given: Mapping[str, Value], class_names: Sequence[str] = ()
) -> MapConditions:
    """Return the conditions of each slice that the prior is conditioned on: the given ones, or those of the slices.

    Args:
        given: values for all slices, by name, encoded.
        class_names: name of each label; empty if unknown.
    Raises:
        ConfigError: a condition is unknown or out of range; every problem.
    """
    problems: list[Problem] = []
    columns: dict[str, Sequence[Value]] = {}
    for name in prior.spec.names:
        if name in given:
            columns[name] = [given[name]] * len(infos)
        elif name in NUMBERS:
            columns[name], found = _list_numbers(prior.spec, name, infos, class_names)
            problems += found
        else:
            columns[name], found = _list_attributes(prior.spec, name, infos)
            problems += found
    if problems:
        raise ConfigError(problems)
    return to_conditions(columns)


def _list_numbers(
    spec: ConditionSpec, name: str, infos: Sequence[SliceInfo], class_names: Sequence[str]
) -> tuple[list[Value], list[Problem]]:
    """Return label or slice number of each slice, and what is wrong with them."""
    limit = spec.num_labels if name == "label" else spec.num_slices
    values: list[int | None] = [info.label if name == "label" else info.slice for info in infos]
    pairs = list(zip(infos, values, strict=True))
    if name == "slice":
        word, advice = "slice number", "give --condition slice=NUMBER for all slices"
        missing_advice = f"name the pictures as in case_012_slice_3.png, or {advice}"
    else:
        word, advice = "label", f"give --condition label={'CLASS' if class_names else 'NUMBER'} for all slices"
        advice += f"; the classes are {describe_classes(class_names)}" if class_names else ""
        missing_advice = advice
    missing = [] if spec.hides else [info.source for info, value in pairs if value is None]
    outside = [f"{info.source} ({value})" for info, value in pairs if value is not None and value >= limit]
    expected = f"numbers in [0, {limit}), as in the training data; {advice}"
    problems = _describe(missing, f"no {word}", f"one; {missing_advice}")
    problems += _describe(outside, f"a {word} out of range", expected)
    return [UNKNOWN_NUMBER if value is None else value for value in values], problems


def _list_attributes(spec: ConditionSpec, name: str, infos: Sequence[SliceInfo]) -> tuple[list[Value], list[Problem]]:
    """Return an attribute of each slice; a number outside of the training data becomes the nearest one inside."""
    attribute = spec.attributes[name]
    values = [attribute.encode(info.attributes.get(name)) for info in infos]
    missing = [info.source for info, value in zip(infos, values, strict=True) if math.isnan(value)]
    if attribute.kind == "number":
        values = [min(max(value, attribute.low), attribute.high) for value in values]
    if not missing or spec.takes_unknown(name):
        return list(values), []
    return list(values), _describe(missing, f"no {name}", f"one; give --condition {name}=VALUE for all slices")


def _describe(names: Sequence[str], found: str, expected: str) -> list[Problem]:
    if not names:
        return []
    where = names[0] if len(names) == 1 else f"{len(names)} slices, for example {name_examples(names)}"
    return [Problem(where, found, expected)]
