"""Volumes without any symmetry, in files of several orientations."""

import math
from pathlib import Path

import nibabel
import numpy as np
import numpy.typing as npt
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, ornt_transform

AXES = ("RAS", "LAS", "PIR")
SHAPE = (20, 24, 16)


def draw_asymmetric(shape: tuple[int, int, int] = SHAPE) -> npt.NDArray[np.float32]:
    """Return a volume with axes RAS whose left, back and bottom are brighter than right, front and top."""
    inside = np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij")
    ball = inside[0] ** 2 + inside[1] ** 2 + inside[2] ** 2 < 0.9
    grey = 100 - 60 * (inside[0] > 0.1) - 25 * (inside[1] > 0.1) + 80 * (inside[2] < -0.1)
    return np.where(ball, grey, 0).astype(np.float32)


def save_oriented(path: Path, axes: str, *, angle: float = 0.0, side_mm: float = 3.0, dtype: str = "i2") -> Path:
    """Save the volume with its axes in another order and direction, rotated about the vertical axis by `angle` degrees.

    Args:
        axes: of the file, such as LAS.
    """
    volume = draw_asymmetric()
    change = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(axes))
    turn = math.radians(angle)
    rotation = np.eye(4)
    rotation[:2, :2] = [[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]]
    rotation[:3, 3] = 4, -5, 9
    affine = rotation @ np.diag([side_mm, side_mm, side_mm, 1]) @ inv_ornt_aff(change, volume.shape)
    image = nibabel.Nifti1Image(apply_orientation(volume, change).astype(dtype), affine)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = b"scan"
    image.to_filename(path)
    return path
