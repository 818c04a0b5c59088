"""The scores of healthy slices: p-values, and the threshold above which a slice is flagged."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from vqdist.inference.anomaly.method import ScoringMethod
from vqdist.inference.anomaly.reference import HealthyReference


@dataclass(frozen=True)
class Calibration:
    """The healthy slices and their scores, each computed without its own subject.

    Attributes:
        scores: in ascending order.
        false_positive_rate: a slice is flagged if its p-value is at most this.
    """

    reference: HealthyReference
    scores: npt.NDArray[np.float64]
    false_positive_rate: float

    @classmethod
    def build(cls, reference: HealthyReference, scores: Sequence[float], method: ScoringMethod) -> Self:
        """Sort the scores of the healthy slices."""
        return cls(reference, np.sort(np.array(scores, np.float64)), method.false_positive_rate)

    @property
    def threshold(self) -> float | None:
        """The slices with a higher score are those that are flagged; None if no p-value is small enough."""
        p_values = np.arange(1, len(self.scores) + 1) / (len(self.scores) + 1)
        flagged = int((p_values <= self.false_positive_rate).sum())
        return float(self.scores[-flagged]) if flagged else None

    def p_value(self, score: float) -> float:
        """Return the share of healthy slices with at least this score, with the slice itself counted among them."""
        higher = len(self.scores) - int(np.searchsorted(self.scores, score, side="left"))
        return (1 + higher) / (1 + len(self.scores))

    def flags(self, score: float) -> bool:
        """Return whether a slice with this score is flagged."""
        return self.p_value(score) <= self.false_positive_rate


def count_needed(false_positive_rate: float) -> int:
    """Return the least number of healthy slices with which a p-value can be at most the rate."""
    return math.ceil(1 / false_positive_rate) - 1
