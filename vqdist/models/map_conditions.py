"""The conditions of code maps: what is known of each map before any of its codes. They travel as one object.

Shapes: B maps.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor

from vqdist.models.argument_checks import expand_condition

NO_CODE = -1  # in all places of the previous map of a map that has none
ConditionValue = int | Tensor | None  # one for all maps, or one for each
UNKNOWN_NUMBER = -1  # label or slice number that is not known


@dataclass(frozen=True)
class MapConditions:
    """Conditions of B maps; None for a condition that is not given.

    Attributes:
        label: (B,) int64 class of each map; UNKNOWN_NUMBER where it is hidden.
        slice: (B,) int64 slice number of each map; UNKNOWN_NUMBER where it is hidden.
        attributes: name -> (B,) float, a number or the index of a category; NaN where it is unknown.
        previous: (B, h, w) int64 codes of the previous slice of each map, NO_CODE in all places where there is none.
    """

    label: Tensor | None = None
    slice: Tensor | None = None
    attributes: Mapping[str, Tensor] = field(default_factory=dict)
    previous: Tensor | None = None

    @classmethod
    def expand(
        cls, num: int, *, label: ConditionValue = None, slice: ConditionValue = None, previous: Tensor | None = None
    ) -> Self:
        """Return one value per map from one for all maps, or one for each; on the CPU, where ranges can be checked.

        Raises:
            UserError: a value that is no number.
        """
        return cls(expand_condition(label, num), expand_condition(slice, num), previous=previous)

    def tensors(self) -> dict[str, Tensor]:
        """Return the conditions that are given, by name, without the previous maps."""
        numbers = {"label": self.label, "slice": self.slice}
        return {name: values for name, values in numbers.items() if values is not None} | dict(self.attributes)

    def keep(self, names: Sequence[str]) -> Self:
        """Return the conditions of some names only, such as those that a model takes."""
        return self._build({name: values for name, values in self.tensors().items() if name in names})

    def fill(self, num: int, names: Iterable[str]) -> Self:
        """Return the conditions with unknown attributes for the names that are not given."""
        missing = {name: torch.full((num,), math.nan) for name in names if name not in self.attributes}
        return self._build(self.tensors() | missing) if missing else self

    def select(self, maps: Sequence[int]) -> Self:
        """Return the conditions of some maps, in the given order."""
        return self._apply(lambda values: values[list(maps)])

    def repeat(self, count: int) -> Self:
        """Return the conditions with each map repeated: (B * count,), the copies of a map beside each other."""
        return self._apply(lambda values: values.repeat_interleave(count, dim=0))

    def hide(self, hidden: Mapping[str, Tensor | bool]) -> Self:
        """Return the conditions with some unknown.

        Args:
            hidden: name -> (B,) bool, True where the condition is to be unknown, or one for all maps.
        """
        changed = {}
        for name, values in self.tensors().items():
            mask, unknown = hidden.get(name, False), math.nan if values.is_floating_point() else UNKNOWN_NUMBER
            if isinstance(mask, Tensor):
                changed[name] = values.masked_fill(mask, unknown)
            else:
                changed[name] = torch.full_like(values, unknown) if mask else values
        return self._build(changed)

    def hide_all(self) -> Self:
        """Return the conditions with all of them unknown; the previous maps stay."""
        return self.hide(dict.fromkeys(self.tensors(), True))

    def join(self, other: Self) -> Self:
        """Return the conditions of these maps followed by those of others, which have the same ones."""
        assert (self.previous is None) == (other.previous is None), "previous maps of some maps only"
        more = other.tensors()
        joined = self._build({name: torch.cat([values, more[name]]) for name, values in self.tensors().items()})
        if self.previous is None or other.previous is None:
            return joined
        return replace(joined, previous=torch.cat([self.previous, other.previous]))

    def to(self, device: torch.device, *, non_blocking: bool = False) -> Self:
        """Return the conditions on a device."""
        return self._apply(lambda values: values.to(device, non_blocking=non_blocking))

    def _apply(self, change: Callable[[Tensor], Tensor]) -> Self:
        changed = self._build({name: change(values) for name, values in self.tensors().items()})
        return changed if self.previous is None else replace(changed, previous=change(self.previous))

    def _build(self, tensors: Mapping[str, Tensor]) -> Self:
        attributes = {name: values for name, values in tensors.items() if name not in ("label", "slice")}
        return type(self)(tensors.get("label"), tensors.get("slice"), attributes, self.previous)
