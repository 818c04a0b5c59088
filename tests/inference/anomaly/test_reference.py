"""The healthy reference: neighbours, statistics without a subject, and limits of the bits."""

import numpy as np
import pytest
import torch

from vqdist.inference.anomaly.calibration import Calibration, count_needed
from vqdist.inference.anomaly.method import ScoringMethod
from vqdist.inference.anomaly.reference import BitLimits, HealthyReference, HealthySlice, find_neighbours, find_others
from vqdist.inference.anomaly.signals import Signals

METHOD = ScoringMethod(neighbours=1, reference_blur=0.0, restore_percentile=50)


def build_slice(subject: str, number: int | None, value: float) -> HealthySlice:
    signals = Signals(*(torch.full((8, 8), factor * value).half() for factor in (1, 2, 3, 5, 4, 10)))
    return HealthySlice(subject, number, signals, torch.ones(8, 8, dtype=torch.bool))


def test_neighbours() -> None:
    numbers = [0, 1, 2, None, 9]
    assert find_neighbours(numbers, 1, 1).tolist() == [0, 1, 2]
    assert find_neighbours(numbers, 9, 1).tolist() == [4]
    assert find_neighbours(numbers, None, 1).tolist() == [0, 1, 2, 3, 4]
    assert find_neighbours(numbers, 40, 1).tolist() == [0, 1, 2, 3, 4]  # none is near: all


def test_neighbours_of_other_subjects() -> None:
    numbers, subjects = [0, 1, 1, 7], np.array(["a", "b", "c", "c"])
    assert find_others(numbers, subjects, 0, 1, without=None).tolist() == [0, 1, 2]
    assert find_others(numbers, subjects, 0, 1, without="c").tolist() == [0, 1]
    assert find_others(numbers, subjects, 7, 1, without="c").tolist() == [0, 1]  # no other subject is near: all others
    assert find_others([7, 8], np.array(["c", "c"]), 7, 1, without="c").tolist() == [0, 1]  # there is no other subject


def test_statistics_of_the_neighbours_without_a_subject() -> None:
    slices = [build_slice("a", 0, 1.0), build_slice("b", 1, 3.0), build_slice("c", 1, 5.0), build_slice("c", 7, 50.0)]
    reference = HealthyReference(slices, METHOD)
    usual = reference.statistics(0)
    for mean, std, factor in zip(usual.mean, usual.std, (1, 2, 3, 5, 4, 10), strict=True):
        torch.testing.assert_close(mean, torch.full((8, 8), 3.0 * factor))
        expected = torch.full((8, 8), factor * np.std([1.0, 3.0, 5.0]), dtype=torch.float32)
        torch.testing.assert_close(std, expected)
    without = reference.statistics(0, without="c")
    torch.testing.assert_close(without.mean.distance, torch.full((8, 8), 2.0))
    torch.testing.assert_close(reference.statistics(0).mean.distance, torch.full((8, 8), 3.0))


def test_limits_are_percentiles_over_neighbouring_slices() -> None:
    bits = [np.array([1.0, 2.0, 3.0], np.float32), np.array([5.0], np.float32), np.array([100.0], np.float32)]
    limits = BitLimits(bits, [0, 1, 8], ["a", "b", "c"], METHOD)
    assert limits.find(0) == np.percentile([1, 2, 3, 5], 50)
    assert limits.find(8) == 100
    assert limits.find(None) == 3
    assert limits.find(0, without="b") == 2
    assert limits.find(8, without="c") == np.percentile([1, 2, 3, 5], 50)  # never of its own codes
    assert BitLimits([np.zeros(0, np.float32)], [0], ["a"], METHOD).find(0) == np.inf


def test_p_values_and_the_threshold() -> None:
    reference, names = HealthyReference([build_slice("a", 0, 1.0)], METHOD), [f"{number}" for number in range(100)]
    method = ScoringMethod(false_positive_rate=0.1)
    calibration = Calibration.build(reference, np.arange(100.0)[::-1].tolist(), names, method)
    assert calibration.threshold == 90
    assert calibration.p_value(1000.0) == pytest.approx(1 / 101)
    assert calibration.p_value(-1.0) == pytest.approx(1)
    assert calibration.p_value(90.0) == pytest.approx(11 / 101)


@pytest.mark.parametrize("num", [3, 8, 9, 10, 18, 19, 20, 99, 100])
@pytest.mark.parametrize("rate", [0.05, 0.1, 0.29])
def test_slices_are_flagged_where_the_p_value_is_at_most_the_rate(num: int, rate: float) -> None:
    names, method = [f"{number}" for number in range(num)], ScoringMethod(false_positive_rate=rate)
    calibration = Calibration.build(HealthyReference([], METHOD), range(num), names, method)
    scores = np.arange(-0.5, num + 1, 0.5).tolist()
    flagged = [calibration.flags(score) for score in scores]
    assert flagged == [(1 + sum(healthy >= score for healthy in range(num))) / (num + 1) <= rate for score in scores]
    limit = calibration.threshold
    assert flagged == [limit is not None and score > limit for score in scores]
    assert any(flagged) == (limit is not None) == (num >= count_needed(rate))


def test_all_people_count_alike() -> None:
    """Nine people of one slice each, and one of 91 slices, that are all less usual."""
    reference = HealthyReference([build_slice("a", 0, 1.0)], METHOD)
    scores, subjects = [*range(9), *range(100, 191)], [*"abcdefghi", *("j" * 91)]
    limits = {0.05: 154, 0.1: 108, 0.2: 8}  # 36, 82 and 91 of the 91 slices count at most rate * 101 - 1
    for rate, limit in limits.items():
        method = ScoringMethod(false_positive_rate=rate)
        assert Calibration.build(reference, scores, subjects, method).threshold == limit
    assert Calibration.build(reference, scores, subjects, ScoringMethod()).p_value(99) == pytest.approx((1 + 10) / 101)
