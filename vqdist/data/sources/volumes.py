"""Reading of volumes, NIfTI and Analyze 7.5, as axial slices.

The rows of a slice go from the subject's left to right and its columns from back to front, as in the OASIS slices.
Headers are checked against limits before data are read, because a compressed volume can declare any size.
"""

import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vqdist.data.sources.brain_extent import BrainExtent
from vqdist.data.sources.nifti import read_nifti
from vqdist.data.sources.pictures import robust_range
from vqdist.data.sources.slice_frame import SliceFrame
from vqdist.data.sources.volume_limits import (
    MAX_HEADER_BYTES,
    WHOLE_VOLUME,
    Affine,
    Scan,
    Volume,
    VolumeError,
    check_shape,
    check_sides,
)
from vqdist.foundation.errors import DataError

# Voxel of the anterior commissure in the T88_111 volumes of OASIS-1, which have this shape.
_T88_SHAPE, _T88_ORIGIN = (176, 208, 176), (88, 123, 75)
_ANALYZE_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8"}


class VoxelSlice(NamedTuple):
    """A slice of the voxels of a file.

    Attributes:
        axis: 0, 1 or 2, across the slice.
        number: along this axis, from 0, in the order of the file.
    """

    axis: int
    number: int


@dataclass(frozen=True)
class SlicedVolume:
    """A volume that was read, with the frame of its slices.

    Attributes:
        limits: the values of black and white: one factor maps the 99.8th percentile of the foreground to white.
        brain: its extent, on which slices are centred; None for a volume in a common frame.
    """

    scan: Scan
    frame: SliceFrame
    limits: tuple[float, float]
    brain: BrainExtent | None = None

    def choose_planes(self, num_slices: int) -> range:
        """Return at most `num_slices` planes, from bottom to top: centred on the brain, or in the middle."""
        depth = self.frame.planes[2]
        if self.brain is None:
            return self.frame.middle(num_slices)
        start = self.brain.start(depth, num_slices)
        return range(start, min(start + num_slices, depth))

    def slices(self, numbers: range) -> npt.NDArray[np.uint8]:
        """Return planes as slices, (n, image_size, image_size)."""
        return np.stack([self.frame.cut(self.scan.values, number, self.limits) for number in numbers])

    def find_voxels(self, number: int) -> VoxelSlice:
        """Return the slice of the file that contains the centre of plane `number`."""
        index, (axis, is_reversed) = self.frame.find_voxel_plane(number), self.scan.height_axis
        return VoxelSlice(axis, self.frame.shape[2] - 1 - index if is_reversed else index)

    def restore_values(self, slices: npt.NDArray[np.float32], start: int) -> Volume:
        """Return slices (n, image_size, image_size) in [0, 1] as values of the volume, (X, Y, Z); black elsewhere.

        Args:
            start: plane of the first slice.
        """
        low, high = self.limits
        return low + self.frame.restore(slices, start) * np.float32(high - low)


def slice_volume(path: str | Path, *, num_slices: int, image_size: int) -> npt.NDArray[np.uint8]:
    """Read a volume and return axial slices, from bottom to top.

    Of a NIfTI volume, whose frame differs from scanner to scanner, the slices are centred on the extent of the brain
    (`BrainExtent`), so that a slice number means about the same height in every person. An Analyze volume is that of
    OASIS-1, registered to a common frame: the slices are those in its middle.

    Voxels are resampled to equal sides (1 mm for a human head). One factor for the whole volume maps the 99.8th
    percentile of the foreground to white; of a head with skull, that of the brain alone.

    Args:
        path: a .nii, a .nii.gz, or a .hdr with its .img beside it.
        num_slices: number of slices; the result has fewer if the volume has fewer.
        image_size: rows and columns of a slice.
    Returns:
        (n, image_size, image_size) uint8.
    Raises:
        DataError: the volume cannot be read; names the file and the reason.
    """
    return cut_middle(path, num_slices=num_slices, image_size=image_size)[0]


def cut_middle(path: str | Path, *, num_slices: int, image_size: int) -> tuple[npt.NDArray[np.uint8], Affine]:
    """Return what `slice_volume` returns, and the affine of the slices: (row, column, slice number) to millimetres."""
    with _reporting(path):
        volume = _open(Path(path), image_size)
        numbers = volume.choose_planes(num_slices)
        return volume.slices(numbers), volume.frame.slice_affine(volume.scan.affine, numbers.start)


def open_volume(path: str | Path, *, image_size: int) -> SlicedVolume:
    """Read a volume. Path and errors as for `slice_volume`."""
    with _reporting(path):
        return _open(Path(path), image_size)


@contextmanager
def _reporting(path: str | Path) -> Iterator[None]:
    """Raise a DataError that names the file for every error of reading it."""
    try:
        yield
    except (OSError, ValueError, EOFError, zlib.error, struct.error, OverflowError, MemoryError) as error:
        found = str(error)[:200] or type(error).__name__
        expected = error.expected if isinstance(error, VolumeError) else WHOLE_VOLUME
        raise DataError.of(str(path), found, expected) from error


def _open(path: Path, image_size: int) -> SlicedVolume:
    scan, brain = _read_analyze(path) if _is_analyze(path) else read_nifti(path), None
    if not _is_analyze(path):
        brain = BrainExtent.find(scan.values, scan.sides_mm)
    limits = find_limits(scan.values, brain) if scan.limits is None else scan.limits
    X, Y, Z = scan.values.shape
    return SlicedVolume(scan, SliceFrame.choose((X, Y, Z), scan.sides_mm, image_size), limits, brain)


def _is_analyze(path: Path) -> bool:
    return path.suffix.lower() == ".hdr"


def find_limits(volume: Volume, brain: BrainExtent | None) -> tuple[float, float]:
    """Return the values of black and white of a volume: `robust_range`, of the brain alone if there is other tissue.

    Raises:
        ValueError: no value is finite, or nearly all are equal.
    """
    if brain is None or brain.inside is None:
        return robust_range(volume)
    return robust_range(np.where(brain.inside, volume, np.float32(min(0.0, float(np.nanmin(volume))))))


def _read_analyze(path: Path) -> Scan:
    """Read an Analyze 7.5 pair with axes from left to right, back to front and bottom to top.

    The format has no orientation. OASIS-1 documents this one for its T88 volumes. The origin is the anterior
    commissure in those, and the middle in others.
    """
    with open(path, "rb") as file:
        header = file.read(348)
    order = {348: "<", 0x5C010000: ">"}.get(struct.unpack("<i", header[:4])[0]) if len(header) == 348 else None
    if order is None:
        raise ValueError("no Analyze 7.5 header of 348 bytes")
    dims = struct.unpack(f"{order}8h", header[40:56])
    code = struct.unpack(f"{order}h", header[70:72])[0]
    sides = struct.unpack(f"{order}3f", header[80:92])
    start = struct.unpack(f"{order}f", header[108:112])[0]
    if code not in _ANALYZE_TYPES or not 3 <= dims[0] <= 7 or not 0 <= start <= MAX_HEADER_BYTES:
        raise ValueError(f"data type {code}, {dims[0]} dimensions, data from byte {start}")
    if any(size < 1 for size in dims[1 : dims[0] + 1]):
        raise ValueError(f"dimensions {dims}")
    shape = check_shape(dims[1 : dims[0] + 1])
    dtype = np.dtype(order + _ANALYZE_TYPES[code])
    image = path.with_suffix(".IMG" if path.suffix == ".HDR" else ".img")
    expected = int(start) + math.prod(shape) * dtype.itemsize
    if image.stat().st_size != expected:
        raise ValueError(f"{image.stat().st_size} bytes in {image.name}, but the header specifies {expected}")
    values = np.fromfile(image, dtype, offset=int(start)).reshape(shape, order="F")
    sides_mm = check_sides(sides)
    affine = np.diag([*sides_mm, 1.0])
    affine[:3, 3] = -sides_mm * (_T88_ORIGIN if shape == _T88_SHAPE else (np.array(shape) - 1) / 2)
    return Scan(values.astype(np.float32), sides_mm, affine)
