"""The mixture of counts of neighbouring codes."""

import numpy as np
import pytest
from scipy.optimize import minimize

from vqdist.evaluation.neighbour_baseline import NeighbourBaseline, fit_weights

K = 5


def draw(count: int, seed: int, *, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Return maps that are equal to the previous ones except for a share of the codes; the first has none."""
    rng = np.random.default_rng(seed)
    previous = rng.integers(0, K, (count, 4, 3))
    codes = np.where(rng.random(previous.shape) < noise, rng.integers(0, K, previous.shape), previous)
    previous[0] = -1
    return codes, previous


def test_bits_follow_the_information_in_the_previous_map() -> None:
    bits = {}
    for noise in (0.0, 0.5, 1.0):
        baseline = NeighbourBaseline.fit([draw(400, 1, noise=noise)], [draw(100, 2, noise=noise)], num_codes=K)
        bits[noise] = baseline.bits(*draw(100, 3, noise=noise))
    probability = 0.5 + 0.5 / K
    entropy = -probability * np.log2(probability) - (1 - probability) * np.log2((1 - probability) / (K - 1))
    assert bits[0.0][1:].mean() < 0.02
    assert bits[0.5][1:].mean() == pytest.approx(entropy, abs=0.05)
    assert bits[1.0].mean() == pytest.approx(np.log2(K), abs=0.05)
    assert bits[0.0][0] > 2  # without a previous map


def test_probabilities_are_the_frequencies_in_train() -> None:
    (codes, previous), other = draw(30, 1, noise=0.5), draw(4, 2, noise=0.5)
    baseline = NeighbourBaseline.fit([(codes[:20], previous[:20]), (codes[20:], previous[20:])], [other], num_codes=K)
    weights = dict.fromkeys(baseline.weights, 0.0) | {"previous and left": 0.9, "unigram": 0.1}
    only = NeighbourBaseline(baseline.counts, weights)
    expected = []
    for y in range(4):
        for x in range(3):
            here = other[0][1, y, x - 1] if x else -2
            total, unigram = 0, (codes == other[0][1, y, x]).sum()
            together = 0
            for row in range(4):
                for column in range(3):
                    beside = codes[:, row, column - 1] if column else np.full(len(codes), -2)
                    same = (previous[:, row, column] == other[1][1, y, x]) & (beside == here)
                    total += same.sum()
                    together += (same & (codes[:, row, column] == other[0][1, y, x])).sum()
            share = (unigram + 0.5) / (codes.size + 0.5 * K)
            expected.append(-np.log2(0.9 * (together / total if total else 0) + 0.1 * share))
    assert only.bits(*other)[1] == pytest.approx(np.mean(expected))


def test_the_weights_are_the_most_likely_ones() -> None:
    parts = np.random.default_rng(0).dirichlet(np.ones(4), size=500).T[:3]

    def loss(logits: np.ndarray) -> float:
        weights = np.exp(logits) / np.exp(logits).sum()
        return -float(np.log(weights @ parts).sum())

    best = minimize(loss, np.zeros(3)).x
    np.testing.assert_allclose(fit_weights(parts.T), np.exp(best) / np.exp(best).sum(), atol=0.01)
