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
# Amplitudes below two or three grey values count as none: a decoder's background is never quite black.
_FLOOR = 0.01
_LEAST_DEVIATION = 0.25  # of the mean deviation

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
        self.deviation = np.maximum(deviation, _LEAST_DEVIATION * deviation.mean() + 1e-12)

    def __call__(self, features: Values) -> Values:
        """Return the scaled features: squared distances between real slices are about 2."""
        return (features - self.mean) / self.deviation / math.sqrt(features.shape[1])


def squared_distances(first: Values, second: Values) -> Values:
    """Return the squared Euclidean distances between rows, (N, M)."""
    squares = (first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1)[None]
    return np.maximum(squares - 2 * first @ second.T, 0)


def energy_distance(first: Values, second: Values, *, paired: bool = False) -> float:
    """Return the unbiased energy distance between two sets, below 0 where they agree by luck.

    2 E|x - y| - E|x - x'| - E|y - y'|, the squared maximum mean discrepancy for the kernel -|x - y|: it needs no
    bandwidth and does not level off. Sejdinovic et al. 2013.

    Args:
        first: (N, F), N at least 2; second: (M, F), likewise.
        paired: row n of both is of the same slice (then M is N): such pairs are left out, as are those of a row with
            itself, and 0 is what a set has to itself.
    """

    def mean_distance(one: Values, other: Values, *, paired: bool) -> float:
        distances = np.sqrt(squared_distances(one, other))
        if not paired:
            return float(distances.mean())
        # A slice is nearest to itself: such pairs would bias the mean, and rounding grows under the root.
        np.fill_diagonal(distances, 0)
        return float(distances.sum() / (len(one) * (len(one) - 1)))

    within = mean_distance(first, first, paired=True) + mean_distance(second, second, paired=True)
    return 2 * mean_distance(first, second, paired=paired) - within
