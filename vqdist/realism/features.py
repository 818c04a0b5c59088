"""Features of slices that need no download, and an unbiased distance between two sets of them."""

import math
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

SIZE = 128
SCALES = 4
ORIENTATIONS = 6
POOL = 4
BRIGHTNESS_POOL = 8
NAME = (
    f"log mean amplitude of {SCALES} x {ORIENTATIONS} log-Gabor filters on a {POOL} x {POOL} grid and mean brightness "
    f"on an {BRIGHTNESS_POOL} x {BRIGHTNESS_POOL} grid, at {SIZE} x {SIZE} pixels"
)
_FASTEST_CYCLES_PER_PIXEL = 0.25
_RADIAL_WIDTH = 0.65  # ratio of a filter's deviation to its frequency: about two octaves
_FLOOR = 1e-3
_BANDWIDTHS = (0.5, 1.0, 2.0)

Values = npt.NDArray[np.float64]


@cache
def filter_bank() -> Tensor:
    """Return log-Gabor filters in the frequency domain, (scales * orientations, SIZE, SIZE).

    Field 1987. Each lets one half plane pass, so that the modulus of what it gives is the local amplitude.
    """
    fy, fx = torch.meshgrid(torch.fft.fftfreq(SIZE), torch.fft.fftfreq(SIZE), indexing="ij")
    radius, angle = torch.hypot(fy, fx), torch.atan2(fy, fx)
    radius[0, 0] = 1.0
    filters = []
    for scale in range(SCALES):
        centre = _FASTEST_CYCLES_PER_PIXEL / 2**scale
        radial = torch.exp(-((radius / centre).log() ** 2) / (2 * math.log(_RADIAL_WIDTH) ** 2))
        radial[0, 0] = 0.0
        for orientation in range(ORIENTATIONS):
            turn = angle - math.pi * orientation / ORIENTATIONS
            turn = torch.atan2(turn.sin(), turn.cos())
            filters.append(radial * torch.exp(-(turn**2) / (2 * (math.pi / ORIENTATIONS / 1.2) ** 2)))
    return torch.stack(filters)


def compute_features(images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B F"]:
    """Return the features that NAME tells, of the mean over channels.

    Args:
        images: in [0, 1]; brought to SIZE x SIZE first.
    """
    grey = images.float().mean(dim=1, keepdim=True)
    grey = F.interpolate(grey, size=(SIZE, SIZE), mode="area")
    bank = filter_bank().to(grey.device)
    amplitude = torch.fft.ifft2(torch.fft.fft2(grey) * bank).abs()  # (B, scales * orientations, SIZE, SIZE)
    texture = (F.adaptive_avg_pool2d(amplitude, POOL) + _FLOOR).log()
    brightness = F.adaptive_avg_pool2d(grey, BRIGHTNESS_POOL)
    return torch.cat([texture.flatten(1), brightness.flatten(1)], dim=1)


class Scaling:
    """Centres and scales features by their mean and deviation over a reference set, train.

    Args:
        reference: (N, F).
    """

    def __init__(self, reference: Values) -> None:
        self.mean = reference.mean(axis=0)
        # A cell that is background in every training slice has no deviation of its own.
        deviation = reference.std(axis=0)
        self.deviation = np.maximum(deviation, 0.05 * deviation.mean() + 1e-12)

    def __call__(self, features: Values) -> Values:
        """Return the scaled features: squared distances between real slices are about 2."""
        return (features - self.mean) / self.deviation / math.sqrt(features.shape[1])


def squared_distances(first: Values, second: Values) -> Values:
    """Return the squared Euclidean distances between rows, (N, M)."""
    squares = (first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1)[None]
    return np.maximum(squares - 2 * first @ second.T, 0)


def kernel_mmd(first: Values, second: Values, scale: float) -> float:
    """Return the unbiased squared maximum mean discrepancy between two sets, below 0 where they agree by luck.

    Gretton et al. 2012, eq. 3, with the mean of three Gaussian kernels.

    Args:
        first: (N, F), N at least 2; second: (M, F), likewise.
        scale: the squared distance that the middle kernel takes for near, best the median within train.
    """

    def mean_kernel(distances: Values, *, within: bool) -> float:
        total = sum(np.exp(-distances / (factor * scale)).sum() for factor in _BANDWIDTHS) / len(_BANDWIDTHS)
        rows, columns = distances.shape
        # A slice is nearest to itself: such pairs would bias the mean.
        return (total - rows) / (rows * (rows - 1)) if within else total / (rows * columns)

    return float(
        mean_kernel(squared_distances(first, first), within=True)
        + mean_kernel(squared_distances(second, second), within=True)
        - 2 * mean_kernel(squared_distances(first, second), within=False)
    )


def median_distance(features: Values) -> float:
    """Return the median squared distance between different rows."""
    distances = squared_distances(features, features)
    return float(np.median(distances[~np.eye(len(features), dtype=bool)]))
