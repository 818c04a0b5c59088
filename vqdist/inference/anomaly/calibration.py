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
        scores: in ascending order; they may include those of training slices.
        counts: what each score counts; all subjects count alike, and the sum is the number of scores.
        threshold: a slice with a higher score is flagged.
    """

    reference: HealthyReference
    scores: npt.NDArray[np.float64]
    counts: npt.NDArray[np.float64]
    threshold: float

    @classmethod
    def build(
        cls, reference: HealthyReference, scores: Sequence[float], subjects: Sequence[str], method: ScoringMethod
    ) -> Self:
        """Choose the threshold so that at most the share `method.false_positive_rate` of the slices exceed it.

        It is midway between the last score below and the first above: rounding does not change what is flagged.

        Args:
            subjects: of each score.
        """
        _, index, sizes = np.unique(np.array(subjects, np.str_), return_inverse=True, return_counts=True)
        counts = len(scores) / (len(sizes) * sizes[index])
        order = np.argsort(scores, kind="stable")
        ordered, counts = np.array(scores, np.float64)[order], counts[order]
        exceeding = len(scores) - counts.cumsum()  # how many scores are higher
        last = int(np.argmax(exceeding <= method.false_positive_rate * len(scores) + 1e-6))
        return cls(reference, ordered, counts, float(ordered[last : last + 2].mean()))

    def p_value(self, score: float) -> float:
        """Return the share of healthy slices with at least this score, with the slice itself counted among them."""
        higher = float(self.counts[np.searchsorted(self.scores, score, side="left") :].sum())
        return (1 + higher) / (1 + len(self.scores))
