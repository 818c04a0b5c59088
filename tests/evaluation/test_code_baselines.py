"""The baselines against plain counts, distributions that sum to one, and a grid search of the weights."""

import math
from collections import Counter

import numpy as np
import pytest

from vqdist.evaluation.code_baselines import BASELINES, SMOOTHING, CodeBaselines, fit_weights, uniform_bits
from vqdist.evaluation.context_counts import CodeMaps
from vqdist.foundation.errors import DataError

K = 6


def draw_maps(num: int, seed: int) -> CodeMaps:
    """Return maps of 3 x 2: a third of the codes depends on the position, a third on position and slice number, and a
    third repeats the code above. Code 5 never occurs."""
    rng = np.random.default_rng(seed)
    slices = rng.integers(3, size=num)
    by_position = np.arange(6).reshape(3, 2) % 5
    codes = np.where(rng.random((num, 3, 2)) < 0.5, by_position, rng.integers(5, size=(num, 3, 2)))
    codes = np.where(rng.random((num, 3, 2)) < 0.4, (by_position + slices[:, None, None]) % 5, codes)
    for row in (1, 2):
        codes[:, row] = np.where(rng.random((num, 2)) < 0.5, codes[:, row - 1], codes[:, row])
    return CodeMaps(codes, slices)


def cut(maps: CodeMaps, *ends: int) -> list[CodeMaps]:
    return [CodeMaps(maps.codes[a:b], maps.slices[a:b]) for a, b in zip((0, *ends), (*ends, None), strict=True)]


@pytest.fixture(scope="module")
def baselines() -> CodeBaselines:
    return CodeBaselines.fit(cut(draw_maps(400, 0), 33, 250), cut(draw_maps(120, 1), 50), num_codes=K)


def test_bits_equal_plain_counts(baselines: CodeBaselines) -> None:
    train, test = draw_maps(400, 0), draw_maps(9, 2)
    test.codes[0, 0, 0] = 5
    counts = Counter(train.codes.ravel().tolist())
    unigram = [(counts[k] + SMOOTHING) / (train.codes.size + K * SMOOTHING) for k in range(K)]
    found = baselines.bits(test)
    bits = [[-math.log2(unigram[k]) for k in one.ravel()] for one in test.codes]
    np.testing.assert_allclose(found["unigram"], np.mean(bits, axis=1))
    (position_weights,), (slice_weights,) = baselines.weights["position"], baselines.weights["position_slice"]
    for i, one in enumerate(test.codes):
        by_position, by_slice = 0.0, 0.0
        for y, x in np.ndindex(3, 2):
            code, same = one[y, x], train.slices == test.slices[i]
            shares = [unigram[code], (train.codes[:, y, x] == code).mean(), (train.codes[same, y, x] == code).mean()]
            by_position -= math.log2(np.dot(position_weights, shares[:2]))
            by_slice -= math.log2(np.dot(slice_weights, shares))
        assert found["position"][i] == pytest.approx(by_position / 6)
        assert found["position_slice"][i] == pytest.approx(by_slice / 6)


def test_neighbours_are_the_codes_to_the_left_and_above(baselines: CodeBaselines) -> None:
    train, test = draw_maps(400, 0), draw_maps(5, 3)
    components, _ = baselines.components(test)
    for number, (i, y, x) in enumerate(np.ndindex(*test.codes.shape)):

        def neighbours(codes: np.ndarray, y: int = y, x: int = x) -> tuple[int, int]:
            return (codes[y, x - 1] if x else K, codes[y - 1, x] if y else K)

        here = neighbours(test.codes[i])
        following = [int(one[y, x]) for one in train.codes if neighbours(one) == here]
        expected = following.count(test.codes[i, y, x]) / len(following) if following else None
        found = components["position_neighbours"][number]
        assert found == pytest.approx(components["unigram"][number] if expected is None else expected)


def test_probabilities_of_all_codes_sum_to_one(baselines: CodeBaselines) -> None:
    """Also in contexts that do not occur in train: the codes and slice numbers are random."""
    rng = np.random.default_rng(5)
    for y, x in np.ndindex(3, 2):
        codes = np.repeat(rng.integers(K, size=(20, 1, 3, 2)), K, axis=1)
        codes[:, :, y, x] = np.arange(K)
        maps = CodeMaps(codes.reshape(-1, 3, 2), np.repeat(rng.integers(-1, 5, size=20), K))
        for name, p in baselines.probabilities(maps).items():
            here = p.reshape(20, K, 3, 2)[:, :, y, x]
            assert (here > 0).all(), name
            np.testing.assert_allclose(here.sum(axis=1), 1, rtol=1e-12, err_msg=name)


def test_each_baseline_needs_fewer_bits_than_the_one_before(baselines: CodeBaselines) -> None:
    bits = baselines.bits(draw_maps(200, 7))
    means = [uniform_bits(K), *(bits[name].mean() for name in BASELINES)]
    assert means == sorted(means, reverse=True)
    assert means[-1] < means[-2] - 0.1


def test_weights_are_optimal_on_validate(baselines: CodeBaselines) -> None:
    components, _ = baselines.components(draw_maps(120, 1))
    weights = np.linspace(0, 0.9999, 5001)[:, None]
    mixed = weights * components["position"] + (1 - weights) * components["unigram"]
    best = weights[np.log2(mixed).sum(axis=1).argmax(), 0]
    assert baselines.weights["position"][0, 1] == pytest.approx(best, abs=1e-3)
    assert all(np.allclose(found.sum(axis=1), 1) for found in baselines.weights.values())


def test_weight_of_an_extreme_mixture() -> None:
    worse, better = np.array([[0.5, 0.0], [0.5, 0.0]]), np.array([[0.5, 0.9], [0.5, 0.8]])
    np.testing.assert_allclose(fit_weights(worse), [1, 0], atol=1e-6)
    np.testing.assert_allclose(fit_weights(better), [0, 1], atol=1e-3)


@pytest.mark.parametrize(("train", "validate", "named"), [(0, 3, "train"), (3, 0, "validate")])
def test_a_split_without_maps_is_named(train: int, validate: int, named: str) -> None:
    parts = [[draw_maps(num, 0)] if num else [] for num in (train, validate)]
    with pytest.raises(DataError, match=f"the {named} split: found no maps"):
        CodeBaselines.fit(*parts, num_codes=K)
