"""What the header of a volume must satisfy before its voxels are read."""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

MAX_VOXELS = 2**28
MAX_HEADER_BYTES = 2**20
WHOLE_VOLUME = "a whole 3-D volume"

Volume = npt.NDArray[np.float32]
Sides = npt.NDArray[np.float64]
Affine = npt.NDArray[np.float64]


class FileAxis(NamedTuple):
    """The axis of the voxels in a file that goes most nearly from bottom to top.

    Attributes:
        number: 0, 1 or 2.
        is_reversed: it goes from top to bottom.
    """

    number: int = 2
    is_reversed: bool = False


class Scan(NamedTuple):
    """A volume with axes from the subject's left to right, back to front and bottom to top (RAS+).

    Attributes:
        values: (X, Y, Z) voxels.
        sides_mm: sides of a voxel.
        affine: (4, 4) from voxels to millimetres; right, front and top are positive.
        limits: the values of black and white, if the file states them.
        height_axis: of the file; `values` has its own axes.
    """

    values: Volume
    sides_mm: Sides
    affine: Affine
    limits: tuple[float, float] | None = None
    height_axis: FileAxis = FileAxis()


class VolumeError(ValueError):
    """A volume cannot be used: what was found in it, and what was expected."""

    def __init__(self, found: str, expected: str = WHOLE_VOLUME) -> None:
        self.expected = expected
        super().__init__(found)


def check_shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return the three sizes of a volume; trailing sizes of 1, as of a series with one volume, are dropped.

    Raises:
        VolumeError: a series of several volumes, a single slice, or more than MAX_VOXELS voxels.
    """
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    text = " x ".join(map(str, shape))
    if len(shape) == 4:
        expected = "one 3-D volume: select one, for example the first with `nib-roi -t 0:1 IN.nii.gz OUT.nii.gz`"
        raise VolumeError(f"a 4-D series of {shape[3]} volumes ({text})", expected)
    if len(shape) > 4:
        expected = "one 3-D volume: select one with nibabel, for example `image.slicer[:, :, :, 0, 0]`"
        raise VolumeError(f"a {len(shape)}-D array of {text}", expected)
    if len(shape) != 3 or min(shape) < 2:
        raise VolumeError(f"an array of {text}", "a 3-D volume of at least 2 x 2 x 2 voxels")
    if math.prod(shape) > MAX_VOXELS:
        raise VolumeError(f"{text} voxels, more than {MAX_VOXELS}")
    return shape[0], shape[1], shape[2]


def check_sides(sides: npt.ArrayLike) -> Sides:
    """Return the sides of a voxel as three numbers above 0.

    Raises:
        VolumeError: they are not.
    """
    sides_mm = np.abs(np.asarray(sides, np.float64))
    if sides_mm.shape != (3,) or not np.isfinite(sides_mm).all() or not (sides_mm > 0).all():
        raise VolumeError(f"voxels of {np.asarray(sides).tolist()} mm", "voxel sizes above 0 in the header")
    return sides_mm
