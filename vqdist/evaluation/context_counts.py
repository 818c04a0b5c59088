"""How often each code occurs in each context: a position, a slice number, the codes to the left and above."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class CodeMaps:
    """Code maps and the slice number of each.

    Attributes:
        codes: (B, h, w).
        slices: (B,) below 0 for a map without slice number.
    """

    codes: Integers
    slices: Integers


def build_contexts(maps: CodeMaps, num_codes: int) -> dict[str, Integers]:
    """Return the number of the context of each code by name of the context, (B, h w) each.

    A code without neighbour, at the border of the map, has the neighbour `num_codes`.
    """
    batch, height, width = maps.codes.shape
    position = np.broadcast_to(np.arange(height * width), (batch, height * width))
    padded = np.pad(maps.codes, ((0, 0), (1, 0), (1, 0)), constant_values=num_codes)
    left, above = padded[:, 1:, :-1].reshape(batch, -1), padded[:, :-1, 1:].reshape(batch, -1)
    neighbours = left * (num_codes + 1) + above
    return {
        "position": position,
        "position_slice": (maps.slices[:, None] + 1) * (height * width) + position,
        "neighbours": neighbours,
        "position_above": position * (num_codes + 1) + above,
        "position_left": position * (num_codes + 1) + left,
        "position_neighbours": position * (num_codes + 1) ** 2 + neighbours,
    }


@dataclass(frozen=True)
class ContextCounts:
    """Occurrences of contexts, and of codes in them; sorted, so that only what occurs takes memory.

    Attributes:
        contexts, totals: (C,) contexts in ascending order and the number of codes in each.
        pairs, counts: (P,) context num_codes + code in ascending order, and its occurrences.
    """

    num_codes: int
    contexts: Integers
    totals: Integers
    pairs: Integers
    counts: Integers

    @classmethod
    def count(cls, parts: Sequence[tuple[Integers, Integers]], num_codes: int) -> Self:
        """Add up the (pair, occurrences) of several sets of maps, as `count_pairs` returns them."""
        keys, occurrences = (np.concatenate([part[i] for part in parts]) for i in range(2))
        pairs, counts = sum_by_key(keys, occurrences)
        return cls(num_codes, *sum_by_key(pairs // num_codes, counts), pairs, counts)

    def look_up(self, contexts: Integers, codes: Integers) -> tuple[Integers, Integers]:
        """Return the occurrences of each code in its context, and of the context: (N,) each, 0 if there are none."""
        counts = _find(self.pairs, self.counts, contexts * self.num_codes + codes)
        return counts, _find(self.contexts, self.totals, contexts)


def count_pairs(contexts: Integers, codes: Integers, num_codes: int) -> tuple[Integers, Integers]:
    """Return (context num_codes + code, occurrences) of the codes of some maps."""
    pairs, counts = np.unique(contexts.ravel() * num_codes + codes.ravel(), return_counts=True)
    return pairs, counts


def sum_by_key(keys: Integers, values: Integers) -> tuple[Integers, Integers]:
    """Return the distinct keys in ascending order and the sum of the values of each."""
    distinct, index = np.unique(keys, return_inverse=True)
    return distinct, np.bincount(index, weights=values).astype(np.int64)


def _find(keys: Integers, values: Integers, wanted: Integers) -> Integers:
    """Return the value of each wanted key, 0 for a key that does not occur."""
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[places] == wanted, values[places], 0)
