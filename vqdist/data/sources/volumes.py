"""Reading of volumes, NIfTI and Analyze 7.5, as axial slices.

The rows of a slice go from the subject's left to right and its columns from back to front, as in the OASIS slices.
Headers are checked against limits before data are read, because a compressed volume can declare any size.
"""

import math
import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vqdist.data.sources.brain_extent import BrainExtent
from vqdist.data.sources.nifti import read_nifti
from vqdist.data.sources.pictures import pad_to_square, resize, robust_range
from vqdist.data.sources.volume_limits import (
    MAX_HEADER_BYTES,
    WHOLE_VOLUME,
    Sides,
    Volume,
    VolumeError,
    check_shape,
    check_sides,
)
from vqdist.foundation.errors import DataError

# Volumes of about the size of a human head are resampled to 1 mm and padded to the 256 mm frame of the OASIS slices.
_HEAD_MM = (100.0, 400.0)
_FRAME_MM = 256
_ANALYZE_TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8"}


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
    try:
        volume, sides_mm = _read(Path(path))
        brain = None if _is_analyze(Path(path)) else BrainExtent.find(volume, sides_mm)
        return _extract_slices(volume, sides_mm, brain, num_slices, image_size)
    except (OSError, ValueError, EOFError, zlib.error, struct.error, OverflowError, MemoryError) as error:
        found = str(error)[:200] or type(error).__name__
        expected = error.expected if isinstance(error, VolumeError) else WHOLE_VOLUME
        raise DataError.of(str(path), found, expected) from error


def _read(path: Path) -> tuple[Volume, Sides]:
    return _read_analyze(path) if _is_analyze(path) else read_nifti(path)


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


def _extract_slices(
    volume: Volume, sides_mm: Sides, brain: BrainExtent | None, num_slices: int, image_size: int
) -> np.ndarray:
    low, high = find_limits(volume, brain)
    extent_mm = sides_mm * volume.shape
    is_head = _HEAD_MM[0] <= extent_mm.max() <= _HEAD_MM[1]
    target_mm = 1.0 if is_head else float(sides_mm.min())
    rows, columns, depth = np.maximum(np.round(extent_mm / target_mm), 1).astype(int).tolist()
    if max(rows, columns, depth) > 4096:
        raise ValueError(f"voxels of {sides_mm.round(3).tolist()} mm, too unequal to be resampled")
    start = max((depth - num_slices) // 2, 0) if brain is None else brain.start(depth, num_slices)
    side = _FRAME_MM if is_head and _FRAME_MM / 2 <= max(rows, columns) <= _FRAME_MM else max(rows, columns)
    slices = []
    for number in range(start, min(start + num_slices, depth)):
        plane = _interpolate_plane(volume, number, depth)
        plane = np.nan_to_num((plane - low) * np.float32(255 / (high - low)), nan=0.0, posinf=255.0)
        plane = resize(np.clip(plane, 0, 255).astype(np.float32), (rows, columns))
        plane = resize(pad_to_square(plane, side), (image_size, image_size))
        slices.append(np.clip(np.round(plane), 0, 255).astype(np.uint8))
    return np.stack(slices)


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


def _read_analyze(path: Path) -> tuple[Volume, Sides]:
    """Read an Analyze 7.5 pair with axes from left to right, back to front and bottom to top.

    The format has no orientation. OASIS-1 documents this one for its T88 volumes.
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
    return values.astype(np.float32), check_sides(sides)
