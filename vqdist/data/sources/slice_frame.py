"""The position of axial slices in the volume that they are cut from: from voxels to square slices and back.

Axes of a volume go from the subject's left to right, back to front and bottom to top (RAS+). A slice has the subject's
left in its first row and the back in its first column.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vqdist.data.sources.pictures import pad_to_square, resize
from vqdist.data.sources.volume_limits import Affine, Sides, Volume

# Volumes of about the size of a human head are resampled to 1 mm and padded to the 256 mm frame of the OASIS slices.
_HEAD_MM = (100.0, 400.0)
_FRAME_MM = 256
_MAX_SIDE = 4096


@dataclass(frozen=True)
class SliceFrame:
    """Conversion between the voxels of a volume and its axial slices.

    Attributes:
        shape: (X, Y, Z) voxels of the volume.
        planes: (rows, columns, depth) of the volume after it is resampled to voxels of equal sides.
        side: rows and columns of the black square in which a plane is centred.
        image_size: rows and columns of a slice.
    """

    shape: tuple[int, int, int]
    planes: tuple[int, int, int]
    side: int
    image_size: int

    @classmethod
    def choose(cls, shape: tuple[int, int, int], sides_mm: Sides, image_size: int) -> "SliceFrame":
        """Return the frame of a volume: voxels of 1 mm for a human head, else of its smallest side.

        Raises:
            ValueError: the sides of a voxel are too unequal.
        """
        extent_mm = sides_mm * shape
        is_head = _HEAD_MM[0] <= extent_mm.max() <= _HEAD_MM[1]
        target_mm = 1.0 if is_head else float(sides_mm.min())
        rows, columns, depth = np.maximum(np.round(extent_mm / target_mm), 1).astype(int).tolist()
        if max(rows, columns, depth) > _MAX_SIDE:
            raise ValueError(f"voxels of {sides_mm.round(3).tolist()} mm, too unequal to be resampled")
        in_frame = is_head and _FRAME_MM / 2 <= max(rows, columns) <= _FRAME_MM
        return cls(shape, (rows, columns, depth), _FRAME_MM if in_frame else max(rows, columns), image_size)

    def middle(self, num_slices: int) -> range:
        """Return the numbers of the middle planes, at most `num_slices`, from bottom to top."""
        depth = self.planes[2]
        start = max((depth - num_slices) // 2, 0)
        return range(start, min(start + num_slices, depth))

    def cut(self, volume: Volume, number: int, limits: tuple[float, float]) -> npt.NDArray[np.uint8]:
        """Return a plane as a slice, (image_size, image_size).

        Args:
            limits: the values of black and white.
        """
        low, high = limits
        plane = _interpolate_plane(volume, number, self.planes[2])
        plane = np.nan_to_num((plane - low) * np.float32(255 / (high - low)), nan=0.0, posinf=255.0)
        plane = resize(np.clip(plane, 0, 255).astype(np.float32), self.planes[:2])
        plane = resize(pad_to_square(plane, self.side), (self.image_size, self.image_size))
        return np.clip(np.round(plane), 0, 255).astype(np.uint8)

    def find_voxel_plane(self, number: int) -> int:
        """Return the index along Z of the voxels that contain the centre of axial plane `number`."""
        return int((number + 0.5) * self.shape[2] / self.planes[2])

    def restore(self, slices: npt.NDArray[np.float32], start: int) -> Volume:
        """Return slices (n, image_size, image_size) at their places in the volume, (X, Y, Z); 0 elsewhere.

        Args:
            start: plane of the first slice.
        """
        planes = np.stack([self._uncut(image) for image in slices])
        heights = (np.arange(self.shape[2]) + 0.5) * self.planes[2] / self.shape[2] - 0.5 - start
        inside = (heights > -0.5) & (heights < len(planes) - 0.5)
        heights = np.clip(heights, 0, len(planes) - 1)
        below = np.floor(heights).astype(int)
        above = np.minimum(below + 1, len(planes) - 1)
        weight = (heights - below).astype(np.float32)[:, None, None]
        volume = planes[below] * (1 - weight) + planes[above] * weight
        return np.where(inside[:, None, None], volume, 0).transpose(1, 2, 0).astype(np.float32)

    def _uncut(self, image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        rows, columns, _ = self.planes
        top, left = (self.side - rows) // 2, (self.side - columns) // 2
        square = resize(np.ascontiguousarray(image, np.float32), (self.side, self.side))
        return resize(np.ascontiguousarray(square[top : top + rows, left : left + columns]), self.shape[:2])

    def slice_affine(self, affine: Affine, start: int) -> Affine:
        """Return the affine of the slices: (row, column, slice number) to millimetres.

        Args:
            affine: of the volume.
            start: plane of slice 0.
        """
        to_voxels = np.eye(4)
        for axis in range(3):
            ratio = self.shape[axis] / self.planes[axis]
            pixel, margin = self.side / self.image_size, (self.side - self.planes[axis]) // 2
            if axis == 2:
                pixel, margin = 1.0, -start
            to_voxels[axis, axis] = pixel * ratio
            to_voxels[axis, 3] = (0.5 * pixel - margin) * ratio - 0.5
        return affine @ to_voxels


def _interpolate_plane(volume: Volume, number: int, depth: int) -> Volume:
    """Return axial plane `number` of `depth` equally spaced ones, interpolated between the volume's planes."""
    planes = volume.shape[2]
    if planes == depth:
        return volume[:, :, number]
    ratio = planes / depth
    inside = math.ceil(ratio)
    heights = (number + (np.arange(inside) + 0.5) / inside) * ratio - 0.5
    heights = np.clip(heights, 0, planes - 1)
    below = np.floor(heights).astype(int)
    above = np.minimum(below + 1, planes - 1)
    weight = (heights - below).astype(np.float32)
    return (volume[:, :, below] * (1 - weight) + volume[:, :, above] * weight).mean(axis=2)
