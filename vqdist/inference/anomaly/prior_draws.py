"""Slices drawn from the prior: reference slices of a condition, and the bits of likely codes."""

import math
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from vqdist.inference.prior_and_vqvae import MAPS_PER_PASS, PriorAndVQVAE
from vqdist.inference.sampling import draw_noise
from vqdist.models.map_conditions import UNKNOWN_NUMBER, ConditionValue, MapConditions

DARK = 0.1  # a decoded place with no brighter pixel is outside the brain


class Condition(NamedTuple):
    """The conditions of a slice, to be compared with those of others.

    Attributes:
        label, slice: None if the prior is not conditioned on it, UNKNOWN_NUMBER if it is unknown.
        attributes: name -> number or index of the category, encoded; None if it is unknown.
    """

    label: int | None
    slice: int | None
    attributes: tuple[tuple[str, float | None], ...] = ()

    @classmethod
    def of(cls, known: MapConditions, index: int) -> Self:
        """Return the conditions of one of several maps."""
        label, number = (None if values is None else int(values[index]) for values in (known.label, known.slice))
        found = {name: float(values[index]) for name, values in known.attributes.items()}
        return cls(label, number, tuple((name, None if value != value else value) for name, value in found.items()))

    @property
    def number(self) -> int | None:
        """The slice number; None if there is none or it is unknown."""
        return None if self.slice == UNKNOWN_NUMBER else self.slice

    def expand(self, size: int, slices: ConditionValue) -> MapConditions:
        """Return the conditions of `size` maps, with a slice number for all or one for each."""
        numbers = MapConditions.expand(size, label=self.label, slice=slices)
        found = {name: torch.full((size,), math.nan if value is None else value) for name, value in self.attributes}
        return MapConditions(numbers.label, numbers.slice, found)


@dataclass(frozen=True)
class PriorDraws:
    """Slices that the prior draws under a condition.

    Attributes:
        images: (num, C, S, S) uint8.
        bits: (n,) of the drawn codes inside the brain.
    """

    images: Tensor
    bits: npt.NDArray[np.float32]


def draw_slices(models: PriorAndVQVAE, condition: Condition, num: int, seed: int) -> PriorDraws:
    """Draw slices of a condition. If the slice number is known, a third each has the one before, it and the one after.

    Slices of the same number differ in height between people.
    """
    (h, w), prior = models.grid, models.prior
    drawn: list[Tensor] = []
    bits: list[npt.NDArray[np.float32]] = []
    for start in range(0, num, MAPS_PER_PASS):
        size = min(MAPS_PER_PASS, num - start)
        numbers: ConditionValue = condition.slice
        if condition.number is not None:
            steps = (torch.arange(size) + start) % 3 - 1
            numbers = (steps + condition.number).clamp(0, prior.num_slices - 1)
        given = condition.expand(size, numbers)
        noise = draw_noise(range(start, start + size), h * w, prior.num_codes, seed)
        codes = prior.sample(size, (h, w), noise, conditions=given)
        images = models.vqvae.decode(codes)
        bits += keep_inside(images, models.count_bits(codes, given), models.vqvae.downsample, above=DARK)
        drawn.append((images * 255).round().byte().cpu())
    return PriorDraws(torch.cat(drawn), np.concatenate([np.zeros(0, np.float32), *bits]))


def keep_inside(images: Tensor, bits: Tensor, downsample: int, *, above: float) -> list[npt.NDArray[np.float32]]:
    """Return for each slice the bits of the places with a pixel above a grey value.

    Args:
        images: (B, C, S, S).
        bits: (B, h, w).
    """
    brightest = F.max_pool2d(images.amax(dim=1), downsample)
    return [found[inside].cpu().numpy() for found, inside in zip(bits, brightest > above, strict=True)]
