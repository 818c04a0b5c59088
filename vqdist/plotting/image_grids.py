"""Image grids as PNG files, for training previews, samples and reconstructions."""

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from vqdist.data.shards.codecs import encode_png
from vqdist.foundation.atomic_files import write_atomic

GAP_PIXELS = 2
_BACKGROUND = 96


def to_uint8(images: Tensor) -> npt.NDArray[np.uint8]:
    """Convert images in [0, 1] to uint8, clipped and rounded to the nearest grey value."""
    return images.detach().float().clamp(0, 1).mul(255).round().to(torch.uint8).cpu().numpy()


def build_grid(images: Float[Tensor, "N C H W"], columns: int) -> npt.NDArray[np.uint8]:
    """Arrange images row by row on a grey background.

    Args:
        images: in [0, 1], at least one.
        columns: images per row; with fewer than `columns` images the grid is narrower.
    Returns:
        uint8 pixels, shape (C, height, width).
    """
    N, C, H, W = images.shape
    columns = min(columns, N)
    rows = math.ceil(N / columns)
    grid = np.full((C, rows * (H + GAP_PIXELS) + GAP_PIXELS, columns * (W + GAP_PIXELS) + GAP_PIXELS), _BACKGROUND)
    for index, pixels in enumerate(to_uint8(images)):
        row, column = divmod(index, columns)
        top, left = GAP_PIXELS + row * (H + GAP_PIXELS), GAP_PIXELS + column * (W + GAP_PIXELS)
        grid[:, top : top + H, left : left + W] = pixels
    return grid.astype(np.uint8)


def build_pairs(
    originals: Float[Tensor, "N C H W"], recon: Float[Tensor, "N C H W"], columns: int = 8
) -> npt.NDArray[np.uint8]:
    """Arrange originals in rows, each followed by the row of their reconstructions."""
    rows = [
        build_grid(torch.cat([above, below]), len(above))
        for above, below in zip(originals.split(columns), recon.split(columns), strict=True)
    ]
    widest = max(row.shape[2] for row in rows)
    padded = [np.pad(row, ((0, 0), (0, 0), (0, widest - row.shape[2])), constant_values=_BACKGROUND) for row in rows]
    return np.concatenate(padded, axis=1)


def save_png(pixels: npt.NDArray[np.uint8], path: str | Path) -> Path:
    """Write (C, H, W) uint8 pixels atomically as PNG, create the folder, and return the path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, encode_png(pixels))
    return path


def save_grid(images: Float[Tensor, "N C H W"], path: str | Path, columns: int = 8) -> Path:
    """Write images in [0, 1] as one PNG; see `build_grid`."""
    return save_png(build_grid(images, columns), path)


def save_pairs(
    originals: Float[Tensor, "N C H W"], recon: Float[Tensor, "N C H W"], path: str | Path, columns: int = 8
) -> Path:
    """Write originals and their reconstructions as one PNG; see `build_pairs`."""
    return save_png(build_pairs(originals, recon, columns), path)
