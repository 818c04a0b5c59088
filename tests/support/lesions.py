"""Lesions planted in synthetic slices, and holes."""

import numpy as np
import numpy.typing as npt
from support.datasets import SIZE

from vqdist.data.sources.phantom import phantom_slice


def draw_disc(size: int, centre: tuple[float, float], radius: float) -> npt.NDArray[np.bool_]:
    """Return a disc as a mask (size, size)."""
    rows, columns = np.mgrid[:size, :size]
    return np.hypot(rows - centre[0], columns - centre[1]) <= radius


def plant_lesion(
    image: npt.NDArray[np.uint8], seed: int, *, value: int = 30, radius: float = 3.0
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Return a slice (H, W) with a disc of a grey value somewhere inside the brain, and the mask of the disc."""
    rng = np.random.default_rng(seed)
    inside = np.argwhere(image > 60)
    mask = draw_disc(len(image), tuple(inside[rng.integers(len(inside))]), radius) & (image > 0)
    return np.where(mask, np.uint8(value), image), mask


def draw_brain(subject: int, number: int, size: int = SIZE) -> npt.NDArray[np.uint8]:
    """Return a synthetic slice, (size, size) uint8."""
    return phantom_slice(subject, number, image_size=size)
