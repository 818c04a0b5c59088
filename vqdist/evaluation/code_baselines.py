"""What a map of codes costs without a prior: by how often each code occurs, anywhere and at its place.

A prior is worth its training where it needs clearly fewer bits than these, all counted on train.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from vqdist.foundation.errors import DataError

# Added to every count of the unigram, so that a code unseen in train costs a finite number of bits
# (Krichevsky and Trofimov 1981).
SMOOTHING = 0.5
_BISECTIONS = 50

Codes = npt.NDArray[np.int64]  # (B, h, w)
Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Baselines:
    """Code frequencies of a training split.

    Attributes:
        unigram: (K,) smoothed share of each code.
        position_counts: (h w, K) how often each code lies at each place.
        maps: number of maps that were counted.
        weight: share of the per-position frequencies in their mixture with the unigram.
    """

    unigram: Values
    position_counts: npt.NDArray[np.int32]
    maps: int
    weight: float = 0.0

    @classmethod
    def fit(cls, train: Iterable[Codes], validate: Iterable[Codes], *, num_codes: int) -> Self:
        """Count the codes of train and choose the mixture's weight on validate.

        Raises:
            DataError: one of the two has no maps.
        """
        counted = cls._count(train, num_codes)
        shares = [counted.shares(codes) for codes in validate]
        if not shares:
            raise DataError.of("the validate split", "no maps", "maps to choose the baseline's weight on")
        at_place, anywhere = (np.concatenate([share[i].ravel() for share in shares]) for i in range(2))
        weight = find_weight(at_place, anywhere)
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
            raise DataError.of("the train split", "no maps", "maps to count the baselines on")
        total = counts.sum(axis=0, dtype=np.int64) + SMOOTHING
        return cls(total / total.sum(), counts, maps)

    def shares(self, codes: Codes) -> tuple[Values, Values]:
        """Return the share of each code in train at its place, and anywhere: (B, h w) each."""
        flat = codes.reshape(len(codes), -1)
        at_place = self.position_counts[np.arange(flat.shape[1]), flat] / self.maps
        return at_place, self.unigram[flat]

    def unigram_bits(self, codes: Codes) -> Values:
        """Return each map's mean bits per code under the unigram: (B,)."""
        return -np.log2(self.shares(codes)[1]).mean(axis=1)

    def position_bits(self, codes: Codes) -> Values:
        """Return each map's mean bits per code under the per-position mixture: (B,)."""
        at_place, anywhere = self.shares(codes)
        return -np.log2(self.weight * at_place + (1 - self.weight) * anywhere).mean(axis=1)


def uniform_bits(num_codes: int) -> float:
    """Return the bits per code where every code is equally likely: log2 K."""
    return math.log2(num_codes)


def find_weight(at_place: Values, anywhere: Values) -> float:
    """Return the weight w in [0, 1] that makes -sum log(w at_place + (1 - w) anywhere) smallest.

    The sum is convex in w, so that its slope is bisected.

    Args:
        at_place: (N,) probabilities, 0 allowed.
        anywhere: (N,) probabilities above 0.
    """
    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):
        weight = (low + high) / 2
        slope = ((anywhere - at_place) / (weight * at_place + (1 - weight) * anywhere)).sum()
        low, high = (low, weight) if slope > 0 else (weight, high)
    return low
