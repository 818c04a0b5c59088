"""Bootstrap intervals resample subjects, not slices."""

import numpy as np
import pytest

from vqdist.metrics.confidence_intervals import bootstrap_subjects


def test_bootstrap_resamples_whole_subjects() -> None:
    values = np.repeat([0.0, 1.0, 2.0, 5.0], [30, 10, 20, 40])
    subjects = np.repeat(["a", "b", "c", "d"], [30, 10, 20, 40]).tolist()
    mean, low, high = bootstrap_subjects(values, subjects)
    assert mean == pytest.approx(values.mean())
    assert low is not None
    assert high is not None
    # Over slices the interval would be about 0.8 wide; over four subjects it spans most of their range.
    assert 0 <= low < 1 < 4 < high <= 5
    shuffled = np.random.default_rng(1).permutation(100)
    again = bootstrap_subjects(values[shuffled], [subjects[i] for i in shuffled])
    assert again == pytest.approx((mean, low, high))


def test_bootstrap_without_interval() -> None:
    assert bootstrap_subjects([1.0, 3.0], ["a", "a"]) == (2.0, None, None)


def test_bootstrap_of_independent_samples_is_the_normal_interval() -> None:
    values = np.random.default_rng(0).normal(size=400)
    mean, low, high = bootstrap_subjects(values, [str(i) for i in range(400)])
    assert low is not None
    assert high is not None
    half_width = 1.96 * values.std() / 20
    assert (mean - low, high - mean) == pytest.approx((half_width, half_width), rel=0.1)
