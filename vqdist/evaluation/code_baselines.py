"""Baselines of the bits per code: how often each code occurs in train, in contexts that need no model.

A prior has learned spatial structure if it needs clearly fewer bits than the best of these, `mixture`.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from vqdist.evaluation.context_counts import (
    CodeMaps,
    ContextCounts,
    Integers,
    Values,
    build_contexts,
    count_pairs,
)
from vqdist.foundation.errors import DataError

# Added to every count of the unigram, so that a code that does not occur in train costs a finite number of bits
# (Krichevsky and Trofimov 1981).
SMOOTHING = 0.5
# The contexts of each baseline besides the unigram. The weights of a mixture sum to 1.
BASELINES = {
    "unigram": (),
    "position": ("position",),
    "position_slice": ("position", "position_slice"),
    "mixture": (
        *("position", "position_slice", "neighbours"),
        *("position_above", "position_left", "position_neighbours"),
    ),
}
# The weights of `mixture` depend on how often the most specific context occurs in train: (Jelinek and Mercer 1980).
_LEVEL_CONTEXT = "position_neighbours"
_LEVELS = 10
_EM_STEPS = 300
_TOLERANCE = 1e-7


@dataclass(frozen=True)
class CodeBaselines:
    """Code frequencies of a training split, and the weights of their mixtures.

    Attributes:
        unigram: (K,) smoothed probability of each code.
        counts: by name of the context.
        maps: number of maps that were counted.
        weights: baseline -> (levels, 1 + contexts), the unigram first; the weights of a level sum to 1.
    """

    unigram: Values
    counts: Mapping[str, ContextCounts]
    maps: int
    weights: Mapping[str, Values]

    @classmethod
    def fit(cls, train: Iterable[CodeMaps], validate: Iterable[CodeMaps], *, num_codes: int) -> Self:
        """Count the codes of train, and choose the weights of the mixtures on validate by expectation maximisation.

        Raises:
            DataError: train or validate has no maps.
        """
        counted = cls._count(train, num_codes)
        batches = [counted.components(maps) for maps in validate]
        if not batches:
            raise DataError.of("the validate split", "no maps", "maps to choose the weights of the baselines")
        components = {name: np.concatenate([batch[0][name] for batch in batches]) for name in batches[0][0]}
        levels = np.concatenate([batch[1] for batch in batches])
        weights = {
            name: _fit_levels(_stack(components, contexts), levels if name == "mixture" else np.zeros_like(levels))
            for name, contexts in BASELINES.items()
        }
        return cls(counted.unigram, counted.counts, counted.maps, weights)

    @classmethod
    def _count(cls, train: Iterable[CodeMaps], num_codes: int) -> Self:
        parts: dict[str, list[tuple[Integers, Integers]]] = {}
        total, maps = np.zeros(num_codes, np.int64), 0
        for batch in train:
            maps += len(batch.codes)
            total += np.bincount(batch.codes.ravel(), minlength=num_codes)
            for name, contexts in build_contexts(batch, num_codes).items():
                parts.setdefault(name, []).append(count_pairs(contexts, batch.codes, num_codes))
        if not maps:
            raise DataError.of("the train split", "no maps", "maps to count the codes")
        counts = {name: ContextCounts.count(found, num_codes) for name, found in parts.items()}
        smoothed = total + SMOOTHING
        return cls(smoothed / smoothed.sum(), counts, maps, {})

    def components(self, maps: CodeMaps) -> tuple[dict[str, Values], Integers]:
        """Return the probability of each code in each context, (N,) each, and the level of its mixture, (N,).

        A context that does not occur in train has the probabilities of the unigram, so that those of all codes sum to 1
        in every context.
        """
        codes = maps.codes.ravel()
        unigram = self.unigram[codes]
        found, levels = {"unigram": unigram}, np.zeros(len(codes), np.int64)
        for name, contexts in build_contexts(maps, len(self.unigram)).items():
            counts, totals = self.counts[name].look_up(contexts.ravel(), codes)
            found[name] = np.where(totals > 0, counts / np.maximum(totals, 1), unigram)
            if name == _LEVEL_CONTEXT:
                levels = np.minimum(np.ceil(np.log2(totals + 1)).astype(np.int64), _LEVELS - 1)
        return found, levels

    def probabilities(self, maps: CodeMaps) -> dict[str, Values]:
        """Return the probability of each code under each baseline: (N,), maps after maps in row order."""
        components, levels = self.components(maps)
        return {
            name: (self.weights[name][levels if len(self.weights[name]) > 1 else 0] * _stack(components, contexts)).sum(
                axis=1
            )
            for name, contexts in BASELINES.items()
        }

    def bits(self, maps: CodeMaps) -> dict[str, Values]:
        """Return the mean bits per code of each map under each baseline: (B,)."""
        found = self.probabilities(maps)
        return {name: -np.log2(p).reshape(len(maps.codes), -1).mean(axis=1) for name, p in found.items()}


def uniform_bits(num_codes: int) -> float:
    """Return the bits per code if all codes are equally likely: log2 K."""
    return math.log2(num_codes)


def _stack(components: Mapping[str, Values], contexts: Sequence[str]) -> Values:
    return np.stack([components["unigram"], *(components[name] for name in contexts)], axis=1)


def _fit_levels(components: Values, levels: Integers) -> Values:
    """Return the weights of each level; a level without codes has those of all levels together."""
    everywhere = fit_weights(components)
    chosen = ((levels == level) for level in range(levels.max() + 1 if not levels.any() else _LEVELS))
    return np.stack([fit_weights(components[here], everywhere) if here.any() else everywhere for here in chosen])


def fit_weights(components: Values, start: Values | None = None) -> Values:
    """Return the weights of a mixture that minimise its bits: (M,), at least 0, with the sum 1.

    Expectation maximisation, which converges to the minimum because the bits are convex in the weights.

    Args:
        components: (N, M) probabilities of N codes under M distributions, above 0 for the first one.
        start: (M,) first weights.
    """
    share = np.full(components.shape[1], 1.0 / components.shape[1]) if start is None else 0.9 * start + 0.1 / len(start)
    for _ in range(_EM_STEPS):
        weighted = components * share
        new = (weighted / weighted.sum(axis=1, keepdims=True)).mean(axis=0)
        if np.abs(new - share).max() < _TOLERANCE:
            return new
        share = new
    return share
