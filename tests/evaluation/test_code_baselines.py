"""The baselines against a plain count of frequencies and a grid search of the weight."""

import math
from collections import Counter

import numpy as np
import pytest

from vqdist.evaluation.code_baselines import SMOOTHING, CodeBaselines, find_mixture_weight, uniform_bits
from vqdist.foundation.errors import DataError

K = 6


def draw_maps(num: int, seed: int) -> np.ndarray:
    """Return maps of 3 x 2 whose position determines half of the codes; code 5 never occurs."""
    rng = np.random.default_rng(seed)
    by_position = np.arange(6).reshape(3, 2) % 5
    return np.where(rng.random((num, 3, 2)) < 0.5, by_position, rng.integers(5, size=(num, 3, 2)))


def test_bits_equal_a_plain_count() -> None:
    train, validate, test = draw_maps(40, 0), draw_maps(12, 1), draw_maps(9, 2)
    test[0, 0, 0] = 5
    baselines = CodeBaselines.fit([train[:33], train[33:]], [validate[:5], validate[5:]], num_codes=K)
    counts = Counter(train.ravel().tolist())
    unigram = [(counts[k] + SMOOTHING) / (train.size + K * SMOOTHING) for k in range(K)]
    bits = [[-math.log2(unigram[k]) for k in one.ravel()] for one in test]
    np.testing.assert_allclose(baselines.unigram_bits(test), np.mean(bits, axis=1))
    for i, one in enumerate(test):
        expected = 0.0
        for y, x in np.ndindex(3, 2):
            share = (train[:, y, x] == one[y, x]).mean()
            expected -= math.log2(baselines.weight * share + (1 - baselines.weight) * unigram[one[y, x]])
        assert baselines.position_bits(test)[i] == pytest.approx(expected / 6)
    assert np.isfinite(baselines.unigram_bits(test)).all()
    assert baselines.position_bits(validate).mean() < baselines.unigram_bits(validate).mean() < uniform_bits(K)


def test_weight_is_optimal_on_validate() -> None:
    baselines = CodeBaselines.fit([draw_maps(40, 0)], [draw_maps(12, 1)], num_codes=K)
    position, unigram = baselines.probabilities(draw_maps(12, 1))
    weights = np.linspace(0, 0.9999, 20_001)[:, None]
    costs = -np.log2(weights * position.ravel() + (1 - weights) * unigram.ravel()).sum(axis=1)
    assert baselines.weight == pytest.approx(weights[costs.argmin(), 0], abs=1e-4)


def test_weight_of_an_extreme_mixture() -> None:
    assert find_mixture_weight(np.array([0.0, 0.0]), np.array([0.5, 0.5])) == pytest.approx(0, abs=1e-9)
    assert find_mixture_weight(np.array([0.9, 0.8]), np.array([0.5, 0.5])) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize(("train", "validate", "named"), [(0, 3, "train"), (3, 0, "validate")])
def test_a_split_without_maps_is_named(train: int, validate: int, named: str) -> None:
    parts = [[draw_maps(num, 0)] if num else [] for num in (train, validate)]
    with pytest.raises(DataError, match=f"the {named} split: found no maps"):
        CodeBaselines.fit(*parts, num_codes=K)
