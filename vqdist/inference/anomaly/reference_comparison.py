"""Compare a slice with reference slices: healthy training slices, or slices that the prior draws.

Shapes: n reference slices, C channels, S side of the image, s side at which the comparison is computed.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vqdist.inference.anomaly.method import ScoringMethod
from vqdist.metrics.smoothing import smooth

SIDE = 128  # about the side at which slices are compared
STD_FLOOR = 0.02  # least standard deviation of a smoothed pixel, in grey values of [0, 1]


class Comparison(NamedTuple):
    """How a slice differs from reference slices; each (S, S).

    Attributes:
        distance: root mean square difference between the patch around a pixel and the most similar patches nearby.
        deviation: difference of the smoothed slice from the mean of the smoothed references, in standard deviations.
        outside: how far the smoothed slice is outside of the grey values that the references have nearby.
        asymmetry: distance to the patches of the slice itself in its other half, mirrored; 0 if halves do not resemble
            each other.
    """

    distance: Tensor
    deviation: Tensor
    outside: Tensor
    asymmetry: Tensor


def compare_with_references(
    image: Tensor, references: Tensor, method: ScoringMethod, *, symmetric: bool = False
) -> Comparison:
    """Compare a slice with reference slices and with its own mirror image, inside the box around its brain; 0 outside.

    The patches of a reference slice are searched within `method.patch_reach`, because folds differ in place between
    people. The distance is the quantile `method.patch_quantile` over the references, so that a few similar ones do not
    hide a lesion. For the same reason the grey values nearby, within `method.range_reach`, are those that the highest
    and the lowest references, a share of `method.range_quantile` each, do not exceed.

    Args:
        image: (C, S, S) in [0, 1], on the CPU.
        references: (n, C, S, S) uint8.
        symmetric: the lower half of a slice resembles the mirrored upper half.
    """
    side = image.shape[-1]
    factor = max(1, side // SIDE)
    small, others = (F.avg_pool2d(values, factor) for values in (image, references.float() / 255))
    unit = small.shape[-1]  # lengths are shares of the side
    reach = max(1, round(method.patch_reach * unit))
    inside = small.amax(dim=0) > 0
    result = small.new_zeros(len(Comparison._fields), *inside.shape)
    if inside.any():
        rows, columns = (_span(inside.any(dim=axis), reach) for axis in (1, 0))
        box = small[:, rows, columns], others[:, :, rows, columns]
        distances = _search(*box, reach, method.patch_sigma * unit)
        rank = 1 + int(method.patch_quantile * (len(distances) - 1))
        result[0, rows, columns] = distances.kthvalue(rank, dim=0).values.clamp(min=0).sqrt()
        smoothed = [smooth(values, method.deviation_sigma * unit) for values in box]
        result[1, rows, columns] = _deviate(smoothed[0], smoothed[1])
        result[2, rows, columns] = _exceed(smoothed[0], smoothed[1], round(method.range_reach * unit), method)
        if symmetric:
            mirrored, reach = small.flip(1)[None], round(method.mirror_reach * unit)
            nearest = _search(small, mirrored, reach, method.patch_sigma * unit)[0]
            result[3] = torch.where(inside, nearest.clamp(min=0).sqrt(), 0.0)
    enlarged = F.interpolate(result[None], (side, side), mode="bilinear")[0]
    return Comparison(*enlarged)


def _span(inside: Tensor, margin: int) -> slice:
    places = inside.nonzero()
    return slice(max(0, int(places[0]) - margin), int(places[-1]) + margin + 1)


def _search(image: Tensor, references: Tensor, reach: int, sigma: float) -> Tensor:
    """Return the mean square difference to the most similar patch of each reference at each pixel: (n, s, s)."""
    height, width = image.shape[-2:]
    padded = F.pad(references, (reach,) * 4)
    nearest: Tensor | None = None
    for down in range(2 * reach + 1):
        for right in range(2 * reach + 1):
            moved = padded[:, :, down : down + height, right : right + width]
            found = smooth((moved - image).square_().mean(dim=1), sigma)
            nearest = found if nearest is None else torch.minimum(nearest, found, out=nearest)
    assert nearest is not None, "reach is at least 0"
    return nearest


def _deviate(image: Tensor, references: Tensor) -> Tensor:
    """Return the difference from the mean of the references in standard deviations: (s, s)."""
    std = references.std(dim=0, correction=0).clamp(min=STD_FLOOR)
    return ((image - references.mean(dim=0)).abs() / std).mean(dim=0)


def _exceed(image: Tensor, references: Tensor, reach: int, method: ScoringMethod) -> Tensor:
    """Return how far each pixel is above or below the range of the references nearby, 0 inside: (s, s)."""
    extremes = []
    for sign in (1, -1):
        highest = _highest_nearby(sign * references, reach)
        rank = len(highest) - int(method.range_quantile * len(highest))
        extremes.append((sign * image - highest.kthvalue(rank, dim=0).values).clamp(min=0))
    return (extremes[0] + extremes[1]).mean(dim=0)


def _highest_nearby(images: Tensor, reach: int) -> Tensor:
    """Return the highest grey value in the square around each pixel: (n, C, s, s). Rows first: faster than a square."""
    columns = F.max_pool2d(images, (2 * reach + 1, 1), stride=1, padding=(reach, 0))
    return F.max_pool2d(columns, (1, 2 * reach + 1), stride=1, padding=(0, reach))
