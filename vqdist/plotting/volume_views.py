"""Three orthogonal views of a volume as one picture."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch.nn.functional as F
from torch import Tensor

from vqdist.plotting.image_grids import GAP_PIXELS, to_uint8

_BACKGROUND = 96


def build_views(slices: Tensor, spacing: Sequence[float]) -> npt.NDArray[np.uint8]:
    """Return the middle axial, sagittal and coronal plane of a volume, one below the other.

    The axial plane is a slice as it is. The two others have the top of the head above; the back is on the left in the
    sagittal plane, the subject's left in the coronal one. All three have the same scale.

    Args:
        slices: (S, C, H, W) in [0, 1], from bottom to top.
        spacing: distance of rows, of columns and of slices in millimetres.
    Returns:
        (C, height, width) uint8.
    """
    S, _, H, W = slices.shape
    row_mm, column_mm, slice_mm = spacing
    volume = slices.permute(1, 0, 2, 3)  # (C, S, H, W)
    planes = (
        (volume[:, S // 2], row_mm, column_mm),
        (volume[:, :, H // 2].flip(1), slice_mm, column_mm),
        (volume[:, :, :, W // 2].flip(1), slice_mm, row_mm),
    )
    pixel_mm = min(row_mm, column_mm)
    axial, sagittal, coronal = (to_uint8(_scale(plane, *(mm / pixel_mm for mm in sides))) for plane, *sides in planes)
    return _stack(axial, sagittal, coronal)


def _scale(plane: Tensor, rows: float, columns: float) -> Tensor:
    size = [max(round(side * factor), 1) for side, factor in zip(plane.shape[1:], (rows, columns), strict=True)]
    return plane if size == list(plane.shape[1:]) else F.interpolate(plane[None], size, mode="bilinear")[0]


def _stack(*parts: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    width = max(part.shape[2] for part in parts)
    rows: list[npt.NDArray[np.uint8]] = []
    for part in parts:
        padding = ((0, 0), (0, 2 * GAP_PIXELS), (0, width - part.shape[2]))
        rows.append(np.pad(part, padding, constant_values=_BACKGROUND))
    return np.concatenate(rows, axis=1)[:, : -2 * GAP_PIXELS]
