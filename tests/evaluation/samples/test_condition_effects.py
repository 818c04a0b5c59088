"""Areas against conditions: correlation, slope and means, and the fluid of a drawn brain."""

import numpy as np
import pytest
import torch

from vqdist.evaluation.samples.condition_effects import Anatomy, _find_means, _subtract, average, correlate
from vqdist.evaluation.samples.slice_statistics import measure_fluid


def test_correlation_and_slope_of_a_line() -> None:
    ages = np.array([20.0, 40.0, 60.0, 80.0])
    assert correlate(ages.tolist(), 0.01 * ages + 3) == pytest.approx({"correlation": 1, "slope": 0.01})
    noisy = 0.01 * ages + np.array([0.1, -0.1, -0.1, 0.1])
    slope = np.polyfit(ages, noisy, 1)[0]
    assert correlate(ages.tolist(), noisy)["slope"] == pytest.approx(slope)
    assert correlate([20.0, 20.0, 20.0], np.arange(3.0)) is None
    assert correlate([20.0, 30.0], np.arange(2.0)) is None


def test_means_of_categories() -> None:
    assert average(["F", "M", "F"], np.array([1.0, 5.0, 2.0])) == {"F": 1.5, "M": 5.0}


def test_the_mean_of_train_at_the_slice_number_is_subtracted() -> None:
    train = Anatomy(np.array([[1.0, 2, 3], [3, 2, 1], [9, 9, 9]]), np.array([4, 4, 7]), [{}] * 3)
    other = Anatomy(np.array([[5.0, 5, 5], [5, 5, 5], [5, 5, 5]]), np.array([4, 7, 30]), [{}] * 3)
    expected = [[3, 3, 3], [-4, -4, -4], 5 - np.array([13, 13, 13]) / 3]
    np.testing.assert_allclose(_subtract(other, _find_means(train)), expected)


def test_fluid_is_the_dark_share_of_the_brain() -> None:
    grey = torch.zeros(2, 64, 64)
    grey[:, 12:52, 12:52] = 0.8
    grey[1, 20:30, 20:40] = 0.2
    assert measure_fluid(grey).tolist() == pytest.approx([0, 200 / 1600], abs=1e-6)
