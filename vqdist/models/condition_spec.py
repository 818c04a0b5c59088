"""What the conditions of a model may be: their names and ranges, and the checks of what callers pass."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from vqdist.config.attributes import UNKNOWN, Attribute, Attributes
from vqdist.config.condition_key import NUMBERS
from vqdist.foundation.errors import Problem, UserError
from vqdist.models.argument_checks import expand_condition, find_condition_problems, find_previous_problems
from vqdist.models.map_conditions import UNKNOWN_NUMBER, ConditionValue, MapConditions

ConditionValues = Mapping[str, Any]  # name -> a value for all maps, or a list or tensor with one for each
Conditions = MapConditions | ConditionValues


@dataclass(frozen=True)
class ConditionSpec:
    """The conditions that a model takes, and whether it reads the maps of previous slices.

    Attributes:
        names: label and slice first, then attributes.
        num_labels, num_slices: labels and slice numbers are less than these.
        attributes: of the training data, those that the model takes.
        hides: whether conditions were hidden in training (model.condition_dropout), so that any may be unknown.
        previous_codes: the codes of a previous map are less than this; None for a model that reads none.
    """

    names: tuple[str, ...]
    num_labels: int
    num_slices: int
    attributes: Attributes = field(default_factory=dict)
    hides: bool = False
    previous_codes: int | None = None

    def takes_unknown(self, name: str) -> bool:
        """Whether the model was trained with unknown values of a condition."""
        return self.hides or (name in self.attributes and self.attributes[name].unknown > 0)

    def read(
        self,
        num: int,
        numbers: MapConditions,
        conditions: Conditions | None,
        *,
        grid: Sequence[int] | None = None,
        extrapolate: bool = False,
    ) -> MapConditions:
        """Return the conditions of `num` maps; attributes that are not given are unknown.

        Args:
            numbers: label, slice number and previous maps.
            conditions: all conditions in one object, in place of `numbers`; or values by name beside them.
            grid: (h, w) of the maps; None if it is not known yet.
            extrapolate: accept numbers outside of the range of the training data.
        Raises:
            UserError: values that do not fit the model; all of them.
        """
        problems: list[Problem] = []
        if isinstance(conditions, MapConditions):
            known = conditions if numbers.previous is None else replace(conditions, previous=numbers.previous)
            twice = [name for name in NUMBERS if name in numbers.tensors()]
            problems = [
                Problem(name, "a value beside MapConditions", "all conditions in one of them") for name in twice
            ]
        else:
            known, problems = self._parse(num, numbers, dict(conditions or {}), extrapolate=extrapolate)
        known = known.fill(num, self.attributes)
        named = {problem.where for problem in problems}
        problems += [problem for problem in self.find_problems(num, known, grid) if problem.where not in named]
        if problems:
            raise UserError(problems)
        return known

    def expand(
        self,
        num: int,
        label: ConditionValue = None,
        slice: ConditionValue = None,
        conditions: Conditions | None = None,
        previous: Tensor | None = None,
        *,
        grid: Sequence[int] | None = None,
        extrapolate: bool = False,
    ) -> MapConditions:
        """Return the conditions of `num` maps from one value for all maps, or one for each; as `read`, on the CPU."""
        numbers = MapConditions.expand(num, label=label, slice=slice, previous=previous)
        return self.read(num, numbers, conditions, grid=grid, extrapolate=extrapolate)

    def check_guidance(self, guidance: float) -> None:
        """Raise UserError for guidance of a model that was not trained without conditions."""
        if guidance and not self.names:
            raise UserError.of("guidance", f"{guidance:g}", "0: the model takes no conditions")
        if guidance and not self.hides:
            expected = "0: guidance needs a model that was trained with model.condition_dropout above 0"
            raise UserError.of("guidance", f"{guidance:g}", expected)

    def describe(self, known: MapConditions, index: int) -> dict[str, Any]:
        """Return the conditions of one map as JSON values; None for one that is unknown or not taken."""
        numbers = {"label": known.label, "slice": known.slice}
        found = {name: None if values is None else int(values[index]) for name, values in numbers.items()}
        described: dict[str, Any] = {name: None if value == UNKNOWN_NUMBER else value for name, value in found.items()}
        if self.attributes:
            values = {name: float(known.attributes[name][index]) for name in self.attributes}
            described["attributes"] = {name: self.attributes[name].decode(value) for name, value in values.items()}
        return described

    def find_problems(self, num: int, known: MapConditions, grid: Sequence[int] | None = None) -> list[Problem]:
        """Return what does not fit `num` maps, of the size `grid` if that is known, and the model.

        Ranges are checked for tensors on the CPU only: on an accelerator the check would wait for the device.
        """
        limits = {"label": self.num_labels, "slice": self.num_slices}
        given = {"label": known.label, "slice": known.slice}
        problems: list[Problem] = []
        for name, limit in limits.items():
            required = name in self.names
            problems += find_condition_problems(
                name, given[name], num=num, limit=limit, required=required, least=-1 if self.hides else 0
            )
        for name, values in known.attributes.items():
            if name in self.attributes:
                problems += self._find_attribute_problems(name, values, num)
            else:
                problems.append(Problem(name, "a value", self._describe_names()))
        return problems + find_previous_problems(known.previous, num=num, grid=grid, num_codes=self.previous_codes)

    def _parse(
        self, num: int, numbers: MapConditions, given: dict[str, Any], *, extrapolate: bool
    ) -> tuple[MapConditions, list[Problem]]:
        tensors = numbers.tensors()
        problems: list[Problem] = []
        for name in [name for name in NUMBERS if name in given]:
            value = given.pop(name)
            if name in tensors:
                problems.append(Problem(name, "two values", f"one, as {name} or in conditions"))
            value = UNKNOWN_NUMBER if isinstance(value, str) and value == UNKNOWN else value
            if (values := expand_condition(value, num)) is not None:
                tensors[name] = values
        attributes = {}
        for name, value in given.items():
            if name not in self.attributes:
                problems.append(Problem(name, "a value", self._describe_names()))
                continue
            attributes[name], found = _expand(name, value, num, self.attributes[name], extrapolate=extrapolate)
            problems += found
        return MapConditions(tensors.get("label"), tensors.get("slice"), attributes, numbers.previous), problems

    def _find_attribute_problems(self, name: str, values: Tensor, num: int) -> list[Problem]:
        if values.shape != (num,) or not values.is_floating_point():
            return [Problem(name, f"{values.dtype} of shape {tuple(values.shape)}", f"float of shape ({num},)")]
        if values.device.type != "cpu" or torch.compiler.is_compiling() or not num:
            return []
        if not self.takes_unknown(name) and bool(values.isnan().any()):
            expected = f"{self.attributes[name].describe().removesuffix(f' or {UNKNOWN}').removesuffix(',')}"
            why = "the model was trained without unknown values, which model.condition_dropout hides at random"
            return [Problem(name, UNKNOWN, f"{expected}: {why}")]
        count = len(self.attributes[name].values)
        if count and bool(((values < 0) | (values >= count)).any()):
            return [Problem(name, "a category out of range", f"an index in [0, {count})")]
        return []

    def _describe_names(self) -> str:
        if not self.names:
            return "none, as the model takes no conditions"
        return f"one of the conditions of the model: {', '.join(self.names)}"


def _expand(
    name: str, value: Any, num: int, attribute: Attribute, *, extrapolate: bool
) -> tuple[Tensor, list[Problem]]:
    """Return the encoded value of each map, and its problems."""
    several = isinstance(value, Tensor | Sequence) and not isinstance(value, str)
    if isinstance(value, Tensor):
        value, several = value.tolist(), value.ndim > 0
    listed = list(value) if several else [value] * num
    if len(listed) != num:
        return torch.full((num,), math.nan), [Problem(name, f"{len(listed)} values", f"one, or {num}")]
    parsed = [attribute.parse(name, one, extrapolate=extrapolate) for one in listed]
    problems = list(dict.fromkeys(problem for _, found in parsed for problem in found))
    return torch.tensor([number for number, _ in parsed], dtype=torch.float32), problems
