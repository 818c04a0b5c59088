"""Detection metrics against torchmetrics and against sums over all thresholds."""

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import binary_auroc, binary_average_precision

from vqdist.metrics.detection import build_curve, detection_intervals, measure_detection, measure_dice


def draw(seed: int, num: int = 400, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.random(num) < 0.2
    scores = rng.normal(size=num) + truth
    return (np.round(scores) if ties else scores), truth


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_figures_are_those_of_torchmetrics(seed: int, ties: bool) -> None:
    scores, truth = draw(seed, ties=ties)
    found = measure_detection(build_curve(scores, truth))
    ranks = torch.from_numpy(np.unique(scores, return_inverse=True)[1] / 1000)  # torchmetrics wants [0, 1]
    target = torch.from_numpy(truth).long()
    assert found.ap == pytest.approx(binary_average_precision(ranks, target).item(), abs=1e-6)
    assert found.auroc == pytest.approx(binary_auroc(ranks, target).item(), abs=1e-6)
    assert found.best_dice == pytest.approx(max(measure_dice(scores, truth, limit - 1e-9) for limit in scores))


def test_a_perfect_and_a_reversed_detector() -> None:
    truth = np.arange(10) >= 7
    perfect = measure_detection(build_curve(np.arange(10.0), truth))
    assert (perfect.ap, perfect.auroc, perfect.best_dice) == (1, 1, 1)
    reversed_ = measure_detection(build_curve(-np.arange(10.0), truth))
    assert reversed_.auroc == 0
    constant = measure_detection(build_curve(np.zeros(10), truth))
    assert (constant.ap, constant.auroc) == (pytest.approx(0.3), 0.5)


@pytest.mark.parametrize("truth", [np.zeros(5, bool), np.ones(5, bool), np.zeros(0, bool)])
def test_without_true_or_false_items_nothing_is_defined(truth: np.ndarray) -> None:
    assert np.isnan(measure_detection(build_curve(np.arange(float(len(truth))), truth))).all()


def test_precision_and_recall() -> None:
    curve = build_curve(np.array([3.0, 2, 2, 1]), np.array([True, False, True, False]))
    np.testing.assert_allclose(curve.thresholds, [3, 2, 1])
    np.testing.assert_allclose(curve.precision, [1, 2 / 3, 1 / 2])
    np.testing.assert_allclose(curve.recall, [1 / 2, 1, 1])


def test_dice_at_a_limit() -> None:
    scores, truth = np.array([1.0, 2, 3, 4]), np.array([False, True, False, True])
    assert measure_dice(scores, truth, 1.5) == pytest.approx(2 * 2 / (3 + 2))
    assert np.isnan(measure_dice(scores, np.zeros(4, bool), 1.5))


def test_intervals_contain_the_figures_and_widen_with_fewer_subjects() -> None:
    scores, truth = draw(0, num=6000)
    exact = measure_detection(build_curve(scores, truth))._asdict()
    many = detection_intervals(scores, truth, [str(number % 100) for number in range(6000)])
    few = detection_intervals(scores, truth, [str(number // 2000) for number in range(6000)])
    for name, value in exact.items():
        mean, low, high = many[name]
        assert mean == pytest.approx(value, abs=2e-3)
        assert low <= value <= high
        assert high - low < 0.1
        assert few[name].low is not None


def test_subjects_that_the_detector_serves_differently_widen_the_interval() -> None:
    """Of three subjects the detector is perfect on two and reversed on one."""
    truth = np.tile(np.arange(10) >= 7, 3)
    scores = np.concatenate([np.arange(10.0), np.arange(10.0), 9 - np.arange(10.0)])
    found = detection_intervals(scores, truth, np.repeat(["a", "b", "c"], 10))
    assert found["auroc"].low < 0.05
    assert found["auroc"].high > 0.95


@pytest.mark.parametrize(("trues", "falses"), [(3, 30), (5, 5), (10, 10)])
def test_intervals_of_an_auroc_between_people_contain_the_true_one(trues: int, falses: int) -> None:
    """Items of a subject share an offset. A percentile bootstrap of subjects contains it in 80, 90 and 92 %."""
    rng = np.random.default_rng(0)
    counts = np.array([trues, falses]) * 6
    truth, names = np.arange(counts.sum()) < counts[0], np.repeat(np.arange(trues + falses), 6).astype(str)
    expected = (
        0.6381631950841185  # Phi(0.5 / sqrt(2)), for two normal distributions with a difference of half a deviation
    )
    trials = 300
    inside = 0
    for _ in range(trials):
        scores = np.repeat(rng.normal(size=trues + falses), 6) * 0.8 + rng.normal(size=counts.sum()) * 0.6 + truth * 0.5
        _, low, high = detection_intervals(scores, truth, names)["auroc"]
        inside += low <= expected <= high
    assert inside / trials == pytest.approx(0.95, abs=0.04)


def test_fewer_than_three_people_have_no_interval() -> None:
    scores, truth = draw(0)
    people = detection_intervals(scores, truth, ["a", "b"] * 200)
    sides = detection_intervals(
        scores, truth, [f"{'true' if found else number % 9}" for number, found in enumerate(truth)]
    )
    for found in (people, sides):
        assert {(figure.low, figure.high) for figure in found.values()} == {(None, None)}
