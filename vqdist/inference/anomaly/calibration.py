"""The scores of healthy slices: p-values, and the threshold above which a slice is flagged."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from vqdist.inference.anomaly.method import ScoringMethod
from vqdist.inference.anomaly.reference import HealthyReference

ROUNDING = 1e-9  # of the sums of counts


@dataclass(frozen=True)
class Calibration:
    """The healthy slices and their scores, each computed without its own subject.

    Attributes:
        scores: in ascending order; they may include those of training slices.
        counts: what each score counts; all subjects count alike, and the sum is the number of scores.
        false_positive_rate: a slice is flagged if its p-value is at most this.
    """

    reference: HealthyReference
    scores: npt.NDArray[np.float64]
    counts: npt.NDArray[np.float64]
    false_positive_rate: float

    @classmethod
    def build(
        cls, reference: HealthyReference, scores: Sequence[float], subjects: Sequence[str], method: ScoringMethod
    ) -> Self:
        """Sort the scores of the healthy slices.

        Args:
            subjects: of each score.
        """
        _, index, sizes = np.unique(np.array(subjects, np.str_), return_inverse=True, return_counts=True)
        counts = len(scores) / (len(sizes) * sizes[index])
        order = np.argsort(scores, kind="stable")
        return cls(reference, np.array(scores, np.float64)[order], counts[order], method.false_positive_rate)

    @property
    def threshold(self) -> float | None:
        """The slices with a higher score are those that are flagged; None if no p-value is small enough."""
        flagged = sum(self._is_small(self._add_itself(higher)) for higher in self.counts[::-1].cumsum())
        if flagged:
            return float(self.scores[-flagged - 1])
        return float(self.scores[-1]) if self._is_small(self._add_itself(0.0)) else None

    def p_value(self, score: float) -> float:
        """Return the share of healthy slices with at least this score, with the slice itself counted among them."""
        return self._add_itself(float(self.counts[np.searchsorted(self.scores, score, side="left") :].sum()))

    def flags(self, score: float) -> bool:
        """Return whether a slice with this score is flagged."""
        return self._is_small(self.p_value(score))

    def _add_itself(self, higher: float) -> float:
        return (1 + higher) / (1 + len(self.scores))

    def _is_small(self, p_value: float) -> bool:
        return p_value <= self.false_positive_rate + ROUNDING


def count_needed(false_positive_rate: float) -> int:
    """Return the least number of healthy slices with which a p-value can be at most the rate."""
    return math.ceil(1 / false_positive_rate) - 1
