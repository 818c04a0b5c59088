"""Baselines of the bits per code: code frequencies of train, over all positions and per position.

A PixelCNN has learned spatial structure if it needs clearly fewer bits than these.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from vqdist.foundation.errors import DataError

# Added to every count of the unigram, so that a code that does not occur in train costs a finite number of bits
# (Krichevsky and Trofimov 1981).
SMOOTHING = 0.5
_BISECTIONS = 50

Codes = npt.NDArray[np.int64]  # (B, h, w)
Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class CodeBaselines:
    """Code frequencies of a training split.

    Attributes:
        unigram: (K,) smoothed probability of each code.
        position_counts: (h w, K) occurrences of each code at each position.
        maps: number of maps that were counted.
        weight: of the per-position frequencies in their mixture with the unigram.
    """

    unigram: Values
    position_counts: npt.NDArray[np.int32]
    maps: int
    weight: float = 0.0

    @classmethod
    def fit(cls, train: Iterable[Codes], validate: Iterable[Codes], *, num_codes: int) -> Self:
        """Count the codes of train and choose the weight of the mixture on validate.

        Raises:
            DataError: train or validate has no maps.
        """
        counted = cls._count(train, num_codes)
        batches = [counted.probabilities(codes) for codes in validate]
        if not batches:
            raise DataError.of("the validate split", "no maps", "maps to choose the weight of the baseline")
        position, unigram = (np.concatenate([batch[i].ravel() for batch in batches]) for i in range(2))
        weight = find_mixture_weight(position, unigram)
        return cls(counted.unigram, counted.position_counts, counted.maps, weight)

    @classmethod
    def _count(cls, train: Iterable[Codes], num_codes: int) -> Self:
        counts: npt.NDArray[np.int32] | None = None
        maps = 0
        for codes in train:
            flat = codes.reshape(len(codes), -1)
            if counts is None:
                counts = np.zeros((flat.shape[1], num_codes), np.int32)
            np.add.at(counts, (np.arange(flat.shape[1]), flat), 1)
            maps += len(flat)
        if counts is None:
            raise DataError.of("the train split", "no maps", "maps to count the codes")
        total = counts.sum(axis=0, dtype=np.int64) + SMOOTHING
        return cls(total / total.sum(), counts, maps)

    def probabilities(self, codes: Codes) -> tuple[Values, Values]:
        """Return the probability of each code by the frequencies at its position, and by the unigram: (B, h w) each."""
        flat = codes.reshape(len(codes), -1)
        position = self.position_counts[np.arange(flat.shape[1]), flat] / self.maps
        return position, self.unigram[flat]

    def unigram_bits(self, codes: Codes) -> Values:
        """Return the mean bits per code of each map under the unigram: (B,)."""
        return -np.log2(self.probabilities(codes)[1]).mean(axis=1)

    def position_bits(self, codes: Codes) -> Values:
        """Return the mean bits per code of each map under the mixture: (B,)."""
        position, unigram = self.probabilities(codes)
        return -np.log2(self.weight * position + (1 - self.weight) * unigram).mean(axis=1)


def uniform_bits(num_codes: int) -> float:
    """Return the bits per code if all codes are equally likely: log2 K."""
    return math.log2(num_codes)


def find_mixture_weight(first: Values, second: Values) -> float:
    """Return the weight w in [0, 1] that minimises -sum log(w first + (1 - w) second).

    The sum is convex in w; the root of its derivative is found by bisection.

    Args:
        first: (N,) probabilities, at least 0.
        second: (N,) probabilities above 0.
    """
    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):
        weight = (low + high) / 2
        slope = ((second - first) / (weight * first + (1 - weight) * second)).sum()
        low, high = (low, weight) if slope > 0 else (weight, high)
    return low
