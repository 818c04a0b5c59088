"""Features of slices without a pretrained network, and an unbiased distance between sets of slices of subjects."""

import math
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vqdist.metrics.confidence_intervals import Interval, jackknife_interval

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
Subjects = npt.NDArray[np.str_]


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


def sum_by_subject(
    first: Values, second: Values, first_subjects: Subjects, second_subjects: Subjects
) -> tuple[Values, Values]:
    """Return the sums of the distances between slices, and their numbers, by pair of subjects: (S, T) each.

    Pairs of slices of one subject are left out, in two sets too.
    """
    order, other_order = np.argsort(first_subjects, kind="stable"), np.argsort(second_subjects, kind="stable")
    names, starts, sizes = np.unique(first_subjects[order], return_index=True, return_counts=True)
    others, other_starts, other_sizes = np.unique(second_subjects[other_order], return_index=True, return_counts=True)
    distances = np.sqrt(squared_distances(first[order], second[other_order]))
    sums = np.add.reduceat(np.add.reduceat(distances, starts, axis=0), other_starts, axis=1)
    different = names[:, None] != others[None]
    return sums * different, np.outer(sizes, other_sizes) * different.astype(np.float64)


def energy_distance(
    first: Values, second: Values, first_subjects: Subjects, second_subjects: Subjects
) -> Interval | None:
    """Return the unbiased energy distance between two sets; it can be below 0 for sets of the same distribution.

    2 E|x - y| - E|x - x'| - E|y - y'|, the squared maximum mean discrepancy of the kernel -|x - y| (Sejdinovic et al.
    2013). It needs no bandwidth and does not saturate. Means are over slices of different subjects: those of one
    subject are more similar than a new subject would be, and would make two sets of real slices differ. The interval is
    that of leaving out one subject at a time, from both sets if it is in both.

    Args:
        first, second: (N, F) and (M, F).
        first_subjects, second_subjects: (N,) and (M,).
    Returns:
        None if a set has slices of one subject only.
    """
    sets = {"first": (first, first_subjects), "second": (second, second_subjects)}
    sums = {
        (one, other): sum_by_subject(sets[one][0], sets[other][0], sets[one][1], sets[other][1])
        for one, other in (("first", "second"), ("first", "first"), ("second", "second"))
    }
    count, other_count = sums["first", "second"][0].shape
    if min(count, other_count) < 2:
        return None
    shared = np.array_equal(np.unique(first_subjects), np.unique(second_subjects))

    def measure(weights: Values) -> float:
        of = {"first": weights[:count], "second": weights if shared else weights[count:]}
        means = {
            (one, other): (of[one] @ total @ of[other]) / (of[one] @ number @ of[other])
            for (one, other), (total, number) in sums.items()
        }
        return float(2 * means["first", "second"] - means["first", "first"] - means["second", "second"])

    return jackknife_interval(measure, *((count,) if shared else (count, other_count)))
