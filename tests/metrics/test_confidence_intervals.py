"""Intervals are over subjects, contain the truth as often as they say, and pair two models by subject."""

import numpy as np
import pytest
from scipy import stats

from vqdist.metrics.confidence_intervals import (
    jackknife_interval,
    paired_difference,
    share_interval,
    subject_interval,
    t_quantile,
    wilson_interval,
)


def test_few_subjects_have_the_interval_of_t_over_their_means() -> None:
    means = np.array([0.0, 1.0, 2.0, 5.0])
    values, subjects = np.repeat(means, 10), np.repeat(["a", "b", "c", "d"], 10)
    found = subject_interval(values, subjects.tolist())
    expected = stats.t.interval(0.95, 3, loc=2.0, scale=stats.sem(means))
    assert found == pytest.approx((2.0, *expected), rel=1e-4)
    shuffled = np.random.default_rng(1).permutation(40)
    assert subject_interval(values[shuffled], subjects[shuffled].tolist()) == pytest.approx(found)


def test_the_mean_is_over_samples_and_a_subject_with_many_counts_more() -> None:
    values, subjects = [1.0] * 30 + [2.0, 3.0, 3.0], ["a"] * 30 + ["b", "c", "c"]
    mean, low, high = subject_interval(values, subjects)
    assert mean == pytest.approx(38 / 33)
    # The standard error of the ratio estimator of Cochran 1977, eq. 2.39, without the finite population.
    sums, counts = np.array([30.0, 2.0, 6.0]), np.array([30, 1, 2])
    error = np.sqrt(((sums - mean * counts) ** 2).sum() / (3 * 2)) / counts.mean()
    assert (low, high) == pytest.approx((mean - 4.3027 * error, mean + 4.3027 * error), rel=1e-4)


@pytest.mark.parametrize("subjects", [["a", "a", "a"], ["a", "a", "b"]])
def test_fewer_than_three_subjects_have_no_interval(subjects: list[str]) -> None:
    assert subject_interval([1.0, 3.0, 5.0], subjects) == (3.0, None, None)


def test_a_mean_that_is_not_finite_has_no_interval() -> None:
    mean, low, high = subject_interval([1.0, np.nan, 2.0], ["a", "b", "c"])
    assert np.isnan(mean)
    assert low is high is None


@pytest.mark.parametrize("subjects", [3, 5, 10, 25])
def test_intervals_contain_the_true_mean_as_often_as_they_say(subjects: int) -> None:
    """Slices of a subject share an offset; the former percentile bootstrap covered 0.76, 0.81, 0.89 for the first."""
    rng = np.random.default_rng(0)
    names = np.repeat(np.arange(subjects), 8).astype(str).tolist()
    trials = 1000
    inside = 0
    for _ in range(trials):
        values = np.repeat(rng.normal(size=subjects), 8) + rng.normal(size=8 * subjects)
        _, low, high = subject_interval(values, names, resamples=400)
        assert low is not None
        assert high is not None
        inside += low <= 0 <= high
    assert inside / trials == pytest.approx(0.95 if subjects < 20 else 0.93, abs=0.025)


def test_many_independent_samples_have_the_normal_interval() -> None:
    values = np.random.default_rng(0).normal(size=400)
    mean, low, high = subject_interval(values, [str(i) for i in range(400)])
    half_width = 1.96 * values.std() / 20
    assert (low, high) == pytest.approx((mean - half_width, mean + half_width), abs=0.1 * half_width)


def test_a_paired_difference_is_narrower_than_the_difference_of_two_models() -> None:
    rng = np.random.default_rng(0)
    subjects = np.repeat(["a", "b", "c", "d", "e"], 4).tolist()
    ours = np.repeat(rng.normal(size=5), 4)
    theirs = ours - 0.1 + rng.normal(0, 0.01, 20)
    mean, low, high = paired_difference(ours, theirs, subjects)
    assert low is not None
    assert high is not None
    assert 0.09 < low < mean < high < 0.11
    difference = (ours - theirs).reshape(5, 4).mean(axis=1)
    expected = stats.ttest_1samp(difference, 0).confidence_interval(0.95)
    assert (low, high) == pytest.approx((expected.low, expected.high), rel=1e-3)


def test_the_jackknife_of_a_difference_of_means_is_welchs_interval() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=6), rng.normal(1, 3, size=9)

    def difference(weights: np.ndarray) -> float:
        return np.average(first, weights=weights[:6]) - np.average(second, weights=weights[6:])

    found = jackknife_interval(difference, 6, 9)
    expected = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    assert found == pytest.approx((first.mean() - second.mean(), expected.low, expected.high), abs=0.01)
    assert jackknife_interval(lambda weights: float(weights.sum()), 2, 9) == (11.0, None, None)


@pytest.mark.parametrize("freedom", [1, 2, 5, 19, 20, 21, 33, 300])
def test_quantiles_of_t(freedom: int) -> None:
    assert t_quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-3)


@pytest.mark.parametrize(("found", "total"), [(0, 40), (3, 40), (40, 40)])
def test_the_interval_of_a_share_is_wilsons(found: int, total: int) -> None:
    expected = stats.binomtest(found, total).proportion_ci(method="wilson")
    assert wilson_interval(found, total) == pytest.approx((found / total, expected.low, expected.high), abs=1e-6)


def test_the_interval_of_a_share_needs_each_figure_once() -> None:
    right, seen = np.array([3, 8, 6, 9]), []

    def measure(weights: np.ndarray) -> float:
        seen.append(tuple(weights))
        return float(weights @ right / (10 * weights.sum()))

    mean, low, high = share_interval(measure, 4)
    assert mean == 0.65
    assert low is not None
    assert high is not None
    odds = np.log([low / (1 - low), mean / (1 - mean), high / (1 - high)])
    assert odds[1] - odds[0] == pytest.approx(odds[2] - odds[1])
    assert len(seen) == len(set(seen)) == 5
