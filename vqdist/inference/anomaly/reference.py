"""Healthy slices as the reference: limits of the bits, the usual residuals and bits at each place, and the scores.

Slices are compared with healthy slices of the same or a neighbouring number. A healthy slice is never compared with
slices of its own subject, so that its score is distributed as that of a healthy slice of a new subject.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vqdist.inference.anomaly.method import ScoringMethod
from vqdist.metrics.smoothing import smooth


class PlaceStatistics(NamedTuple):
    """Mean and standard deviation over healthy slices: of residuals and deviations (S, S), and of the bits (h, w)."""

    residual_mean: Tensor
    residual_std: Tensor
    deviation_mean: Tensor
    deviation_std: Tensor
    bits_mean: Tensor
    bits_std: Tensor


# Without healthy slices: small residuals, a normal distribution of the pixels around the draws of the prior, and the
# bits of likely codes.
ASSUMED = PlaceStatistics(*(torch.tensor(value) for value in (0.0, 0.03, 0.8, 0.6, 2.0, 2.0)))


@dataclass(frozen=True)
class HealthySlice:
    """What the reference keeps of a healthy slice.

    Attributes:
        number: slice number; None if unknown.
        residual, deviation: (S, S) float16.
        bits: (h, w).
        brain: (S, S) bool.
    """

    subject: str
    number: int | None
    residual: Tensor
    deviation: Tensor
    bits: Tensor
    brain: Tensor


class HealthyReference:
    """The healthy slices that others are compared with."""

    def __init__(self, slices: Sequence[HealthySlice], method: ScoringMethod) -> None:
        self._slices, self._method = slices, method
        self._numbers = [found.number for found in slices]
        self._subjects = np.array([found.subject for found in slices])
        self._cache: dict[tuple[tuple[int, ...], str | None], PlaceStatistics] = {}

    def statistics(self, number: int | None, *, without: str | None = None) -> PlaceStatistics:
        """Return mean and standard deviation at each place over the healthy slices near a slice number.

        Args:
            without: a subject to leave out, unless it is the only one.
        """
        chosen = find_neighbours(self._numbers, number, self._method.neighbours)
        if without is not None and (others := self._subjects[chosen] != without).any():
            chosen = chosen[others]
        key = (tuple(chosen.tolist()), None)
        if key not in self._cache:
            self._cache = dict(list(self._cache.items())[-8:])  # slices come in order; a few entries serve all
            self._cache[key] = self._compute([self._slices[index] for index in chosen])
        return self._cache[key]

    def _compute(self, slices: Sequence[HealthySlice]) -> PlaceStatistics:
        share = self._method.reference_blur
        kinds = ([getattr(found, name) for found in slices] for name in ("residual", "deviation", "bits"))
        pairs = [_describe(torch.stack(maps).float(), share) for maps in kinds]
        return PlaceStatistics(*(value for pair in pairs for value in pair))


def _describe(maps: Tensor, blur: float) -> tuple[Tensor, Tensor]:
    """Return the smoothed mean and standard deviation of maps (n, H, W) over n."""
    sigma = blur * maps.shape[-1]
    mean, squares = smooth(maps.mean(dim=0), sigma), smooth(maps.square().mean(dim=0), sigma)
    return mean, (squares - mean.square()).clamp(min=0).sqrt()


def find_neighbours(numbers: Sequence[int | None], number: int | None, reach: int) -> npt.NDArray[np.int64]:
    """Return the indices of the slice numbers that differ from one by at most `reach`.

    Without a number, or without such slices, all indices are returned.
    """
    near: list[int] = []
    if number is not None:
        near = [index for index, found in enumerate(numbers) if found is not None and abs(found - number) <= reach]
    return np.array(near or range(len(numbers)), np.int64)


class BitLimits:
    """For each slice number, the percentile of the bits of the healthy codes inside the brain.

    Args:
        bits: bits of the codes inside the brain, one array per healthy slice.
        numbers: slice number of each healthy slice.
    """

    def __init__(
        self, bits: Sequence[npt.NDArray[np.float32]], numbers: Sequence[int | None], method: ScoringMethod
    ) -> None:
        self._bits, self._numbers, self._method = bits, numbers, method
        self._limits: dict[int | None, float] = {}

    def find(self, number: int | None) -> float:
        """Return the limit for slices of a number."""
        if number not in self._limits:
            chosen = find_neighbours(self._numbers, number, self._method.neighbours)
            pooled = np.concatenate([self._bits[index] for index in chosen])
            percentile = self._method.restore_percentile
            self._limits[number] = float(np.percentile(pooled, percentile)) if pooled.size else float("inf")
        return self._limits[number]
