"""Detection metrics against torchmetrics and against sums over all thresholds."""

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import binary_auroc, binary_average_precision

from vqdist.metrics.detection import bootstrap_detection, build_curve, measure_detection, measure_dice


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
    many = bootstrap_detection(scores, truth, [str(number % 100) for number in range(6000)])
    few = bootstrap_detection(scores, truth, [str(number // 2000) for number in range(6000)])
    for name, value in exact.items():
        low, high = many[name]
        assert low <= value <= high
        assert high - low < 0.1
        assert few[name] is not None
    again = bootstrap_detection(scores, truth, [str(number % 100) for number in range(6000)])
    assert again == many


def test_resampled_figures_follow_the_subjects() -> None:
    """A subject on which the detector is perfect and one on which it is reversed give the widest interval."""
    truth = np.tile(np.arange(10) >= 7, 2)
    scores = np.concatenate([np.arange(10.0), 9 - np.arange(10.0)])
    found = bootstrap_detection(scores, truth, ["a"] * 10 + ["b"] * 10)
    assert found["auroc"] == (0, 1)


def test_one_subject_has_no_interval() -> None:
    scores, truth = draw(0)
    assert set(bootstrap_detection(scores, truth, ["a"] * 400).values()) == {None}
