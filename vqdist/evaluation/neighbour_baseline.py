"""A baseline of the bits per code of a prior that sees the previous slice: a mixture of counts, without a network.

Each part of the mixture is the frequency of a code in train given one context: its position, codes of the previous map
around the place, the codes to the left and above, or two of these codes together. The weights are fitted to validate.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from vqdist.evaluation.code_baselines import SMOOTHING, fit_weights

Codes = npt.NDArray[np.int64]  # (B, h, w)
Values = npt.NDArray[np.float64]
Flat = npt.NDArray[np.int64]  # (N,)
Pair = tuple[Codes, Codes]  # maps, and the previous map of each; -1 for a map without one


def _shift(codes: Codes, down: int, right: int) -> Codes:
    """Return the code `down` rows below and `right` columns right of each place; -2 outside of the map."""
    padded = np.pad(codes, ((0, 0), (1, 1), (1, 1)), constant_values=-2)
    h, w = codes.shape[1:]
    return padded[:, 1 + down : 1 + down + h, 1 + right : 1 + right + w]


def _join(first: Codes, second: Codes) -> Codes:
    return (first + 2) * 2**31 + second + 2


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
class _Counts:
    """How often each code follows each context in train.

    Attributes:
        contexts, context_counts: (n,) the contexts in ascending order and their occurrences.
        keys, key_counts: (m,) number of a context times K plus a code, in ascending order, and their occurrences.
    """

    num_codes: int
    contexts: Flat
    context_counts: Flat
    keys: Flat
    key_counts: Flat

    @classmethod
    def fit(cls, contexts: Flat, codes: Flat, num_codes: int) -> Self:
        found, numbers, counts = np.unique(contexts, return_inverse=True, return_counts=True)
        return cls(num_codes, found, counts, *np.unique(numbers * num_codes + codes, return_counts=True))

    def probabilities(self, contexts: Flat, codes: Flat) -> Values:
        """Return the frequency of each code after its context; 0 for a context that does not occur."""
        numbers, total = _look_up(self.contexts, self.context_counts, contexts)
        _, together = _look_up(self.keys, self.key_counts, numbers * self.num_codes + codes)
        return np.where(total > 0, together / np.maximum(total, 1), 0.0)


def _look_up(keys: Flat, counts: Flat, wanted: Flat) -> tuple[Flat, Flat]:
    """Return the place and the count of each wanted key; a count of 0 for one that does not occur."""
    places = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
    return places, np.where(keys[places] == wanted, counts[places], 0)


@dataclass(frozen=True)
class NeighbourBaseline:
    """The fitted mixture.

    Attributes:
        weights: of each part, by its context.
    """

    counts: Mapping[str, _Counts]
    weights: Mapping[str, float]

    @classmethod
    def fit(cls, train: Iterable[Pair], validate: Iterable[Pair], *, num_codes: int) -> Self:
        """Count the contexts of train, and choose the weights of the mixture on validate."""
        codes, previous = (np.concatenate(maps) for maps in zip(*train, strict=True))
        counts = {
            name: _Counts.fit(find(codes, previous).ravel(), codes.ravel(), num_codes)
            for name, find in _CONTEXTS.items()
        }
        unweighted = cls(counts, {})
        parts = np.concatenate([unweighted._parts(*pair).reshape(len(counts), -1) for pair in validate], axis=1)
        return cls(counts, dict(zip(counts, fit_weights(parts.T).tolist(), strict=True)))

    def _parts(self, codes: Codes, previous: Codes) -> Values:
        """Return the probability of each code by each part, (M, B, h w)."""
        flat = codes.ravel()
        parts = [
            self.counts[name].probabilities(find(codes, previous).ravel(), flat) for name, find in _CONTEXTS.items()
        ]
        unigram = list(_CONTEXTS).index("unigram")
        # As in CodeBaselines: a code that does not occur in train costs a finite number of bits.
        total = self.counts["unigram"].context_counts.sum()
        parts[unigram] = (parts[unigram] * total + SMOOTHING) / (total + SMOOTHING * self.counts["unigram"].num_codes)
        return np.stack(parts).reshape(len(parts), len(codes), -1)

    def bits(self, codes: Codes, previous: Codes) -> Values:
        """Return the mean bits per code of each map: (B,)."""
        weights = np.array([self.weights[name] for name in _CONTEXTS])
        return -np.log2(np.tensordot(weights, self._parts(codes, previous), axes=1)).mean(axis=1)
