"""Features of slices without a pretrained network, and an unbiased distance between two sets of features."""

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
_HIGHEST_CYCLES_PER_PIXEL = 0.25
_RADIAL_WIDTH = 0.65  # ratio of the standard deviation of a filter to its frequency: about two octaves
# Two or three grey values: the background of decoded slices is not exactly black.
_AMPLITUDE_FLOOR = 0.01
_MIN_DEVIATION = 0.25  # of the mean deviation

Values = npt.NDArray[np.float64]


@cache
def filter_bank() -> Tensor:
    """Return log-Gabor filters in the frequency domain, (scales * orientations, SIZE, SIZE); Field 1987.

    Each filter passes one half plane, so the modulus of the filtered image is the local amplitude.
    """
    fy, fx = torch.meshgrid(torch.fft.fftfreq(SIZE), torch.fft.fftfreq(SIZE), indexing="ij")
    radius, angle = torch.hypot(fy, fx), torch.atan2(fy, fx)
    radius[0, 0] = 1.0
    filters = []
    for scale in range(SCALES):
        centre = _HIGHEST_CYCLES_PER_PIXEL / 2**scale
        radial = torch.exp(-((radius / centre).log() ** 2) / (2 * math.log(_RADIAL_WIDTH) ** 2))
        radial[0, 0] = 0.0
        for orientation in range(ORIENTATIONS):
            turn = angle - math.pi * orientation / ORIENTATIONS
            turn = torch.atan2(turn.sin(), turn.cos())
            filters.append(radial * torch.exp(-(turn**2) / (2 * (math.pi / ORIENTATIONS / 1.2) ** 2)))
    return torch.stack(filters)


def compute_features(images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B F"]:
    """Return the features described by NAME, of the mean over channels.

    Args:
        images: in [0, 1]; resized to SIZE x SIZE.
    """
    grey = images.float().mean(dim=1, keepdim=True)
    grey = F.interpolate(grey, size=(SIZE, SIZE), mode="area")
    bank = filter_bank().to(grey.device)
    amplitude = torch.fft.ifft2(torch.fft.fft2(grey) * bank).abs()  # (B, scales * orientations, SIZE, SIZE)
    texture = (F.adaptive_avg_pool2d(amplitude, POOL) + _AMPLITUDE_FLOOR).log()
    brightness = F.adaptive_avg_pool2d(grey, BRIGHTNESS_POOL)
    return torch.cat([texture.flatten(1), brightness.flatten(1)], dim=1)


class Scaling:
    """Standardises features by mean and standard deviation of a reference set.

    Args:
        reference: (N, F).
    """

    def __init__(self, reference: Values) -> None:
        self.mean = reference.mean(axis=0)
        # A cell that is background in every slice of the reference set has no deviation of its own.
        deviation = reference.std(axis=0)
        self.deviation = np.maximum(deviation, _MIN_DEVIATION * deviation.mean() + 1e-12)

    def __call__(self, features: Values) -> Values:
        """Return the standardised features, divided by sqrt(F): squared distances between real slices are about 2."""
        return (features - self.mean) / self.deviation / math.sqrt(features.shape[1])


def squared_distances(first: Values, second: Values) -> Values:
    """Return the squared Euclidean distances between rows, (N, M)."""
    squares = (first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1)[None]
    return np.maximum(squares - 2 * first @ second.T, 0)


def energy_distance(first: Values, second: Values, *, paired: bool = False) -> float:
    """Return the unbiased energy distance between two sets; it can be below 0 for sets of the same distribution.

    2 E|x - y| - E|x - x'| - E|y - y'|, the squared maximum mean discrepancy of the kernel -|x - y| (Sejdinovic et al.
    2013). It needs no bandwidth and does not saturate.

    Args:
        first: (N, F), N at least 2.
        second: (M, F), M at least 2.
        paired: row n of both sets is of the same slice, and M is N. Pairs of equal rows are then left out, as in the
            distance of a set to itself, so that two equal sets have distance 0.
    """

    def mean_distance(one: Values, other: Values, *, paired: bool) -> float:
        distances = np.sqrt(squared_distances(one, other))
        if not paired:
            return float(distances.mean())
        # Exactly 0, where rounding errors would be amplified by the square root.
        np.fill_diagonal(distances, 0)
        return float(distances.sum() / (len(one) * (len(one) - 1)))

    within = mean_distance(first, first, paired=True) + mean_distance(second, second, paired=True)
    return 2 * mean_distance(first, second, paired=paired) - within
