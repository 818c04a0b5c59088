"""Where the brain is in a volume, with or without a skull: its lowest and highest plane, and its voxels.

The largest part of the bright tissue that remains connected when a layer of 1/40 of the volume's longest side (6 mm of
256) is taken off: the scalp and the neck are thinner or smaller than the brain, from which the dark skull parts them.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from vqdist.data.sources.volume_limits import Sides, Volume

_CELLS = 80  # of the coarse grid along the longest side
_LAYER = 2  # cells
_BINS = 256
_MIN_SHARE = 0.05  # of the bright cells; a smaller part is no brain
_SKULL_SHARE = 0.8  # of the bright cells; a brain without skull has more of them
_MAX_STEPS = 4 * _CELLS


@dataclass(frozen=True)
class BrainExtent:
    """The planes of the brain, as shares of the volume's height, and its voxels.

    Attributes:
        low, high: lower edge of its lowest and upper edge of its highest plane, 0 to 1.
        inside: (X, Y, Z) voxels of the brain and those around it; None if the volume has no other tissue.
    """

    low: float
    high: float
    inside: npt.NDArray[np.bool_] | None

    @classmethod
    def find(cls, volume: Volume, sides_mm: Sides) -> Self:
        """Find the brain; without one, that is all bright tissue, and without any contrast the whole volume.

        Args:
            volume: (X, Y, Z).
            sides_mm: of a voxel.
        """
        extent = sides_mm * volume.shape
        step = float(extent.max()) / _CELLS
        size = [max(round(side / step), 1) for side in extent.tolist()]
        values = torch.from_numpy(np.nan_to_num(volume, posinf=0, neginf=0).astype(np.float32))[None, None]
        cells = F.interpolate(values, size=size, mode="nearest" if min(volume.shape) < 2 else "area")
        bright = cells > find_threshold(cells)
        if not bright.any():
            return cls(0.0, 1.0, None)
        core = _keep_largest(1 - _dilate(1 - bright.float(), _LAYER))
        brain = (_dilate(core, _LAYER) > 0) & bright
        if brain.sum() < _MIN_SHARE * bright.sum():
            brain = bright
        planes = torch.nonzero(brain.any(dim=2).any(dim=2).flatten()).flatten()
        low, high = float(planes[0]) / size[2], float(planes[-1] + 1) / size[2]
        if brain.sum() >= _SKULL_SHARE * bright.sum():
            return cls(low, high, None)
        grown = F.interpolate(_dilate(brain.float(), 1), size=list(volume.shape), mode="nearest")
        return cls(low, high, grown[0, 0].numpy() > 0)

    def start(self, depth: int, num_slices: int) -> int:
        """Return the first of `num_slices` planes of `depth` that are centred on the brain, inside the volume."""
        middle = (self.low + self.high) / 2 * depth
        return int(np.clip(round(middle - num_slices / 2), 0, max(depth - num_slices, 0)))


def find_threshold(values: Tensor) -> float:
    """Return the value that best parts dark from bright (Otsu 1979)."""
    low, high = float(values.min()), float(values.max())
    if not high > low:
        return high
    counts = torch.histc(values, _BINS, low, high).double()
    centres = torch.linspace(low, high, 2 * _BINS + 1, dtype=torch.float64)[1::2]
    below, sums = counts.cumsum(0), (counts * centres).cumsum(0)
    above = counts.sum() - below
    variance = (sums * counts.sum() - sums[-1] * below) ** 2 / (below * above).clamp_min(1)
    best = int(variance.argmax())
    return low + (high - low) * (best + 1) / _BINS


def _dilate(mask: Tensor, radius: int) -> Tensor:
    for axis in range(3):
        size, padding = [1, 1, 1], [0, 0, 0]
        size[axis], padding[axis] = 2 * radius + 1, radius
        mask = F.max_pool3d(mask, size, stride=1, padding=padding)
    return mask


def _keep_largest(mask: Tensor) -> Tensor:
    """Return the largest connected part of a mask, (1, 1, X, Y, Z): its cells have numbers, and the largest spreads."""
    numbers = torch.arange(1, mask.numel() + 1, dtype=torch.float32).view(mask.shape) * mask
    for _ in range(_MAX_STEPS):
        spread = _dilate(numbers, 1) * mask
        if torch.equal(spread, numbers):
            break
        numbers = spread
    labels, counts = torch.unique(numbers[numbers > 0], return_counts=True)
    return (numbers == labels[counts.argmax()]).float() if len(labels) else mask
