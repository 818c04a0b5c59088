"""The baselines against frequencies counted by hand and a fine search of the weight."""

import math
from collections import Counter

import numpy as np
import pytest

from vqdist.evaluation.code_baselines import SMOOTHING, Baselines, find_weight, uniform_bits
from vqdist.foundation.errors import DataError

K = 6


def draw_maps(num: int, seed: int) -> np.ndarray:
    """Maps of 3 x 2 whose place decides the code half of the time; code 5 never occurs."""
    rng = np.random.default_rng(seed)
    place = np.arange(6).reshape(3, 2) % 5
    return np.where(rng.random((num, 3, 2)) < 0.5, place, rng.integers(5, size=(num, 3, 2)))


def test_baselines_equal_counts_by_hand() -> None:
    train, validate, test = draw_maps(40, 0), draw_maps(12, 1), draw_maps(9, 2)
    test[0, 0, 0] = 5
    baselines = Baselines.fit([train[:33], train[33:]], [validate[:5], validate[5:]], num_codes=K)
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


def test_weight_is_the_best_on_validate() -> None:
    baselines = Baselines.fit([draw_maps(40, 0)], [draw_maps(12, 1)], num_codes=K)
    at_place, anywhere = baselines.shares(draw_maps(12, 1))
    weights = np.linspace(0, 0.9999, 20_001)[:, None]
    costs = -np.log2(weights * at_place.ravel() + (1 - weights) * anywhere.ravel()).sum(axis=1)
    assert baselines.weight == pytest.approx(weights[costs.argmin(), 0], abs=1e-4)


def test_weight_at_the_ends() -> None:
    assert find_weight(np.array([0.0, 0.0]), np.array([0.5, 0.5])) == pytest.approx(0, abs=1e-9)
    assert find_weight(np.array([0.9, 0.8]), np.array([0.5, 0.5])) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize(("train", "validate", "named"), [(0, 3, "train"), (3, 0, "validate")])
def test_a_split_without_maps_is_named(train: int, validate: int, named: str) -> None:
    parts = [[draw_maps(num, 0)] if num else [] for num in (train, validate)]
    with pytest.raises(DataError, match=f"the {named} split: found no maps"):
        Baselines.fit(*parts, num_codes=K)
