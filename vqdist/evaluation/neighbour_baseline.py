"""A baseline of the bits per code of a prior that sees the previous slice: a mixture of counts, without a network.

Each part of the mixture is the frequency of a code in train given one context: its position, codes of the previous map
around the place, the codes to the left and above, or two of these codes together. The weights are fitted to validate.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from vqdist.evaluation.code_baselines import SMOOTHING, fit_weights
from vqdist.evaluation.context_counts import ContextCounts, Integers, Values, count_pairs

Codes = Integers  # (B, h, w)
Pair = tuple[Codes, Codes]  # maps, and the previous map of each; -1 for a map without one
_MOST_CODES = 2**20  # two codes as one number, times the number of codes, stay below 2**63


def _shift(codes: Codes, down: int, right: int) -> Codes:
    """Return the code `down` rows below and `right` columns right of each place; -2 outside of the map."""
    padded = np.pad(codes, ((0, 0), (1, 1), (1, 1)), constant_values=-2)
    h, w = codes.shape[1:]
    return padded[:, 1 + down : 1 + down + h, 1 + right : 1 + right + w]


def _join(first: Codes, second: Codes) -> Codes:
    return (first + 2) * _MOST_CODES + second + 2


_CONTEXTS: dict[str, Callable[[Codes, Codes], Codes]] = {
    "unigram": lambda codes, previous: np.zeros_like(codes),
    "position": lambda codes, previous: np.broadcast_to(np.arange(codes[0].size).reshape(codes.shape[1:]), codes.shape),
    "previous": lambda codes, previous: previous,
    "previous above": lambda codes, previous: _shift(previous, -1, 0),
    "previous below": lambda codes, previous: _shift(previous, 1, 0),
    "previous left": lambda codes, previous: _shift(previous, 0, -1),
    "previous right": lambda codes, previous: _shift(previous, 0, 1),
    "left": lambda codes, previous: _shift(codes, 0, -1),
    "above": lambda codes, previous: _shift(codes, -1, 0),
    "previous and left": lambda codes, previous: _join(previous, _shift(codes, 0, -1)),
    "previous and above": lambda codes, previous: _join(previous, _shift(codes, -1, 0)),
    "left and above": lambda codes, previous: _join(_shift(codes, 0, -1), _shift(codes, -1, 0)),
}


@dataclass(frozen=True)
class NeighbourBaseline:
    """The fitted mixture.

    Attributes:
        weights: of each part, by its context.
    """

    counts: Mapping[str, ContextCounts]
    weights: Mapping[str, float]

    @classmethod
    def fit(cls, train: Iterable[Pair], validate: Iterable[Pair], *, num_codes: int) -> Self:
        """Count the contexts of train, and choose the weights of the mixture on validate."""
        codes, previous = (np.concatenate(maps) for maps in zip(*train, strict=True))
        counts = {
            name: ContextCounts.count([count_pairs(find(codes, previous), codes, num_codes)], num_codes)
            for name, find in _CONTEXTS.items()
        }
        unweighted = cls(counts, {})
        parts = np.concatenate([unweighted._parts(*pair).reshape(len(counts), -1) for pair in validate], axis=1)
        return cls(counts, dict(zip(counts, fit_weights(parts.T).tolist(), strict=True)))

    def _parts(self, codes: Codes, previous: Codes) -> Values:
        """Return the probability of each code by each part, (M, B, h w)."""
        flat = codes.ravel()
        parts = []
        for name, find in _CONTEXTS.items():
            together, total = self.counts[name].look_up(find(codes, previous).ravel(), flat)
            parts.append(np.where(total > 0, together / np.maximum(total, 1), 0.0))
        unigram = list(_CONTEXTS).index("unigram")
        # As in CodeBaselines: a code that does not occur in train costs a finite number of bits.
        counted = self.counts["unigram"]
        size = counted.totals.sum()
        parts[unigram] = (parts[unigram] * size + SMOOTHING) / (size + SMOOTHING * counted.num_codes)
        return np.stack(parts).reshape(len(parts), len(codes), -1)

    def bits(self, codes: Codes, previous: Codes) -> Values:
        """Return the mean bits per code of each map: (B,)."""
        weights = np.array([self.weights[name] for name in _CONTEXTS])
        return -np.log2(np.tensordot(weights, self._parts(codes, previous), axes=1)).mean(axis=1)
