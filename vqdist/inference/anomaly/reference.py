"""Healthy slices as the reference: limits of the bits, the usual signals at each place, and the scores.

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
from vqdist.inference.anomaly.signals import Signals
from vqdist.metrics.smoothing import smooth

FEW_SUBJECTS = 20  # with fewer healthy subjects, the limits depend much on who they are


class PlaceStatistics(NamedTuple):
    """Mean and standard deviation of each signal over healthy slices, at each pixel."""

    mean: Signals
    std: Signals


# Without healthy slices: small distances and residuals, a normal distribution of the pixels around their mean, and the
# bits of likely codes.
ASSUMED = PlaceStatistics(
    Signals(*map(torch.tensor, (0.06, 0.8, 0.0, 0.06, 0.03, 2.0))),
    Signals(*map(torch.tensor, (0.03, 0.6, 0.002, 0.03, 0.03, 1.5))),
)


@dataclass(frozen=True)
class HealthySlice:
    """What the reference keeps of a healthy slice.

    Attributes:
        number: slice number; None if unknown.
        signals: in float16.
        brain: (S, S) bool.
    """

    subject: str
    number: int | None
    signals: Signals
    brain: Tensor


class HealthyReference:
    """The healthy slices that others are compared with."""

    def __init__(self, slices: Sequence[HealthySlice], method: ScoringMethod) -> None:
        self._slices, self._method = slices, method
        self._numbers = [found.number for found in slices]
        self._subjects = np.array([found.subject for found in slices])
        self._cache: dict[tuple[int, ...], PlaceStatistics] = {}

    def __len__(self) -> int:
        return len(self._slices)

    @property
    def subjects(self) -> set[str]:
        """The subjects of the slices."""
        return set(self._subjects.tolist())

    def statistics(self, number: int | None, *, without: str | None = None) -> PlaceStatistics:
        """Return mean and standard deviation at each place over the healthy slices near a slice number.

        Args:
            without: a subject to leave out; see `find_others`.
        """
        chosen = find_others(self._numbers, self._subjects, number, self._method.neighbours, without=without)
        key = tuple(chosen.tolist())
        if key not in self._cache:
            self._cache = dict(list(self._cache.items())[-8:])  # slices come in order; a few entries serve all
            self._cache[key] = self._compute([self._slices[index] for index in chosen])
        return self._cache[key]

    def _compute(self, slices: Sequence[HealthySlice]) -> PlaceStatistics:
        pairs = [
            _describe(torch.stack(maps).float(), self._method.reference_blur)
            for maps in zip(*(found.signals for found in slices), strict=True)
        ]
        return PlaceStatistics(*(Signals(*values) for values in zip(*pairs, strict=True)))


def _describe(maps: Tensor, blur: float) -> tuple[Tensor, Tensor]:
    """Return the smoothed mean and standard deviation of maps (n, S, S) over n."""
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


def find_others(
    numbers: Sequence[int | None],
    subjects: npt.NDArray[np.str_],
    number: int | None,
    reach: int,
    *,
    without: str | None,
) -> npt.NDArray[np.int64]:
    """Return the indices of the neighbours of a slice number that are not of a subject.

    If the subject is the only one near the number, those of all numbers of the others are returned, and if there are no
    others, its own.

    Args:
        subjects: of each slice.
        without: None leaves out no subject.
    """
    near = find_neighbours(numbers, number, reach)
    if without is None:
        return near
    others = near[subjects[near] != without]
    if not len(others):
        others = np.flatnonzero(subjects != without)
    return others if len(others) else near


class BitLimits:
    """For each slice number, the percentile of the bits of the healthy codes inside the brain.

    Args:
        bits: bits of the codes inside the brain, one array per healthy slice.
        numbers, subjects: of each healthy slice.
    """

    def __init__(
        self,
        bits: Sequence[npt.NDArray[np.float32]],
        numbers: Sequence[int | None],
        subjects: Sequence[str],
        method: ScoringMethod,
    ) -> None:
        self._bits, self._numbers, self._method = bits, numbers, method
        self._subjects = np.array(subjects, np.str_)
        self._limits: dict[tuple[int, ...], float] = {}

    def find(self, number: int | None, *, without: str | None = None) -> float:
        """Return the limit for slices of a number.

        Args:
            without: a subject to leave out; see `find_others`.
        """
        chosen = find_others(self._numbers, self._subjects, number, self._method.neighbours, without=without)
        key = tuple(chosen.tolist())
        if key not in self._limits:
            pooled = np.concatenate([self._bits[index] for index in chosen])
            percentile = self._method.restore_percentile
            self._limits[key] = float(np.percentile(pooled, percentile)) if pooled.size else float("inf")
        return self._limits[key]
