"""The conditions of code maps: what is known of each map before any of its codes. They travel as one object.

Shapes: B maps.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from vqdist.foundation.errors import Problem
from vqdist.models.argument_checks import expand_condition, find_condition_problems

NO_CODE = -1  # in all places of the previous map of a map that has none
ConditionValue = int | Tensor | None  # one for all maps, or one for each


@dataclass(frozen=True)
class MapConditions:
    """Conditions of B maps; None for a condition that is not given.

    Attributes:
        label: (B,) int64 class of each map.
        slice: (B,) int64 slice number of each map.
        previous: (B, h, w) int64 codes of the previous slice of each map, NO_CODE in all places where there is none.
    """

    label: Tensor | None = None
    slice: Tensor | None = None
    previous: Tensor | None = None

    @classmethod
    def expand(cls, num: int, *, label: ConditionValue = None, slice: ConditionValue = None) -> Self:
        """Return one value per map from one for all maps, or one for each; on the CPU, where ranges can be checked.

        Raises:
            UserError: a value that is no number.
        """
        return cls(expand_condition(label, num), expand_condition(slice, num))

    def tensors(self) -> dict[str, Tensor]:
        """Return the conditions that are given, by name."""
        return {name: values for name, values in self._columns().items() if values is not None}

    def find_problems(self, num: int, limits: Mapping[str, int], taken: Sequence[str]) -> list[Problem]:
        """Return what does not fit `num` maps and a model.

        Ranges are checked for tensors on the CPU only: on an accelerator the check would wait for the device.

        Args:
            limits: name of each condition -> the least number that is out of range.
            taken: names of the conditions that the model takes.
        """
        given = self.tensors()
        return [
            problem
            for name, limit in limits.items()
            for problem in find_condition_problems(name, given.get(name), num=num, limit=limit, required=name in taken)
        ]

    def keep(self, names: str | Sequence[str]) -> Self:
        """Return the conditions of some names only, such as those that a model takes."""
        return type(self)(**{name: values for name, values in self.tensors().items() if name in names})

    def select(self, maps: Sequence[int]) -> Self:
        """Return the conditions of some maps, in the given order."""
        return self._apply(lambda values: values[list(maps)])

    def repeat(self, count: int) -> Self:
        """Return the conditions with each map repeated: (B * count,), the copies of a map beside each other."""
        return self._apply(lambda values: values.repeat_interleave(count, dim=0))

    def to(self, device: torch.device, *, non_blocking: bool = False) -> Self:
        """Return the conditions on a device."""
        return self._apply(lambda values: values.to(device, non_blocking=non_blocking))

    def describe(self, index: int) -> dict[str, int | None]:
        """Return the conditions of one map as JSON values, without the previous map."""
        columns = {"label": self.label, "slice": self.slice}
        return {name: None if values is None else int(values[index]) for name, values in columns.items()}

    def _columns(self) -> dict[str, Tensor | None]:
        return {"label": self.label, "slice": self.slice, "previous": self.previous}

    def _apply(self, change: Callable[[Tensor], Tensor]) -> Self:
        return type(self)(**{name: change(values) for name, values in self.tensors().items()})
