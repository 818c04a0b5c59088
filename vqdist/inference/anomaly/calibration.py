"""The scores of healthy slices: p-values, and the threshold above which a slice is flagged."""

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
        threshold: a slice with a higher score is flagged.
    """

    reference: HealthyReference
    scores: npt.NDArray[np.float64]
    threshold: float

    @classmethod
    def build(cls, reference: HealthyReference, scores: Sequence[float], method: ScoringMethod) -> Self:
        """Choose the threshold from the scores of the healthy slices."""
        ordered = np.sort(np.array(scores, np.float64))
        return cls(reference, ordered, float(np.quantile(ordered, 1 - method.false_positive_rate)))

    def p_value(self, score: float) -> float:
        """Return the share of healthy slices with at least this score, with the slice itself counted among them."""
        higher = len(self.scores) - int(np.searchsorted(self.scores, score, side="left"))
        return (1 + higher) / (1 + len(self.scores))
