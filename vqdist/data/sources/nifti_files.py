"""Writing of NIfTI volumes: slices with their affine, and values in the voxels of a volume that was read."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vqdist.data.sources.nifti import GREY_VALUES, choose_affine
from vqdist.data.sources.volume_limits import Volume
from vqdist.foundation.atomic_files import write_atomic
from vqdist.foundation.json_validation import AffineRows


def write_slices(slices: npt.NDArray[np.uint8], affine: AffineRows, path: Path) -> Path:
    """Write slices (n, C, H, W) as a volume (H, W, n) of grey values, and return the path.

    `vqdist shard` does not scale the grey values of such a volume again.

    Args:
        affine: from (row, column, slice number) to millimetres.
    """
    import nibabel

    grey = slices[:, 0] if slices.shape[1] == 1 else np.round(slices.mean(axis=1)).astype(np.uint8)
    image = nibabel.Nifti1Image(np.ascontiguousarray(grey.transpose(1, 2, 0)), np.array(affine))
    image.header["descrip"] = GREY_VALUES
    image.header.set_xyzt_units("mm")
    return _write(image, path)


def is_nifti(name: str) -> bool:
    """Return whether a file is named like a NIfTI volume."""
    return name.lower().endswith((".nii", ".nii.gz"))


def write_like(values: Volume, source: Path, path: Path, *, dtype: npt.DTypeLike | None = None) -> Path:
    """Write values as a volume with the header of another one, and return the path.

    Orientation, affine, voxel sizes and the type of the voxels stay; numbers that the type cannot hold are scaled.

    Args:
        values: (X, Y, Z) with axes from left to right, back to front and bottom to top.
        source: the NIfTI file whose header is used.
        dtype: type of the voxels; None: that of the source.
    """
    import nibabel
    from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform

    found: Any = nibabel.load(source)
    to_file = ornt_transform(axcodes2ornt("RAS"), io_orientation(choose_affine(found.header, str(source))))
    voxels = apply_orientation(values, to_file).reshape(found.shape)
    header = found.header.copy()
    header["cal_min"] = header["cal_max"] = 0  # the range of the other values
    if dtype is not None:
        header.set_data_dtype(dtype)
    return _write(type(found)(voxels, None, header), path)


def _write(image: Any, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = image.to_bytes()
    write_atomic(path, gzip.compress(data, mtime=0) if path.name.lower().endswith(".gz") else data)
    return path
