"""The choice of the slices in the figures."""

import numpy as np

from vqdist.evaluation.figures import choose_slices


def test_best_median_and_worst_slices() -> None:
    ssim = np.array([0.5, 0.9, 0.1, 0.7, 0.3, 0.8, 0.2])
    expected = [("best", 1), ("best", 5), ("median", 3), ("median", 0), ("worst", 6), ("worst", 2)]
    assert choose_slices(ssim) == expected
    assert choose_slices(ssim[:3]) == [("best", 1), ("median", 0), ("worst", 2)]
    assert {number for _, number in choose_slices(ssim[:1])} == {0}
