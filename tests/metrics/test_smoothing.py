"""Smoothing is that of SciPy."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from vqdist.metrics.smoothing import smooth


@pytest.mark.parametrize("sigma", [0.5, 1.5, 4.0])
def test_the_result_is_that_of_scipy(sigma: float) -> None:
    maps = torch.rand(2, 3, 20, 31, dtype=torch.float64)
    radius = int(np.ceil(3 * sigma))
    expected = ndimage.gaussian_filter(
        maps.numpy(), (0, 0, sigma, sigma), mode="nearest", radius=(0, 0, radius, radius)
    )
    np.testing.assert_allclose(smooth(maps, sigma).numpy(), expected, atol=1e-10)


def test_no_smoothing() -> None:
    maps = torch.rand(4, 5)
    assert torch.equal(smooth(maps, 0.0), maps)
