"""Reading of NIfTI volumes with axes from left to right, back to front and bottom to top, and sides in millimetres.

A compressed file is read to its end, where gzip stores the checksum of its content: a reader that stops after the last
voxel does not notice a damaged byte.
"""

import gzip
import io
import struct
import zlib
from pathlib import Path
from typing import Any, cast

import numpy as np

from vqdist.data.sources.volume_limits import (
    MAX_HEADER_BYTES,
    Affine,
    FileAxis,
    Scan,
    Sides,
    VolumeError,
    check_shape,
    check_sides,
)
from vqdist.foundation.progress import print_message

_GZIP_MAGIC = b"\x1f\x8b"
_HEADER_BYTES = 540  # of NIfTI-2; that of NIfTI-1 has 348
_LITTLE_ENDIAN = (b"\x5c\x01\0\0", b"\x1c\x02\0\0")  # the length of the header, with which it starts
_UNIT_MM = {1: 1000.0, 2: 1.0, 3: 1e-3}  # spatial unit in xyzt_units; without one, millimetres are assumed
# No scanner is this large: such a header has its sizes in millimetres and the wrong unit.
_MAX_EXTENT_MM = 10_000.0
_MIN_DETERMINANT = 1e-4  # of an affine whose columns have length 1
_READ_BYTES = 2**20
_MAX_BYTES_AFTER_VOXELS = 2**32
# The description of volumes whose values are grey values of slices: they are not scaled again.
GREY_VALUES = b"vqdist grey values"


def read_nifti(path: Path) -> Scan:
    """Read a .nii or .nii.gz.

    Raises:
        OSError, ValueError: the file is damaged or no 3-D volume; a VolumeError also says what is expected.
    """
    from nibabel.filebasedimages import ImageFileError
    from nibabel.orientations import OrientationError
    from nibabel.spatialimages import HeaderDataError, HeaderTypeError

    try:
        with open(path, "rb") as plain:
            is_gzip = plain.read(2) == _GZIP_MAGIC
            plain.seek(0)
            if not is_gzip:
                return _read_stream(plain, path)
            with gzip.GzipFile(fileobj=plain) as file:
                volume = _read_stream(file, path)
                _read_to_end(file)
                return volume
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        trailing = "Not a gzipped file" in str(error)  # of the bytes after a whole gzip stream
        found = "other bytes after the gzip data" if trailing else f"damaged gzip data ({error})"
        raise VolumeError(found, "a file that `gzip -t` accepts: copy or download it again") from error
    except (
        *(ImageFileError, HeaderDataError, HeaderTypeError, OrientationError, np.linalg.LinAlgError),
        *(KeyError, TypeError, IndexError),
    ) as error:
        raise ValueError(str(error)) from error


def _read_stream(file: io.IOBase, path: Path) -> Scan:
    import nibabel
    from nibabel.affines import voxel_sizes
    from nibabel.arrayproxy import ArrayProxy

    kind = _find_kind(file)
    file.seek(0)
    header = kind.header_class.from_fileobj(file)
    check_shape(header.get_data_shape())
    if header.get_data_dtype().kind not in "iuf":
        raise VolumeError(f"voxels of type {header.get_data_dtype()}", "one integer or real number per voxel")
    check_sides(header.get_zooms()[:3])
    picture = kind(ArrayProxy(file, header.copy()), choose_affine(header, str(path)), header)
    canonical = nibabel.as_closest_canonical(picture)
    values = np.asanyarray(canonical.dataobj, dtype=np.float32)
    values = values.reshape(check_shape(values.shape))
    sides = check_sides(voxel_sizes(canonical.affine))
    sides_mm = to_millimetres(sides, values.shape, header)
    affine = np.array(canonical.affine, np.float64)
    affine[:3] *= sides_mm[0] / sides[0]
    limits = (0.0, 255.0) if bytes(header["descrip"].item()).startswith(GREY_VALUES) else None
    return Scan(values, sides_mm, affine, limits, _find_height_axis(picture.affine))


def _find_height_axis(affine: Affine) -> FileAxis:
    from nibabel.orientations import io_orientation

    axes = io_orientation(affine)  # axis of the body and direction, 1 or -1, of each axis of the file
    number = int(np.flatnonzero(axes[:, 0] == 2)[0])
    return FileAxis(number, bool(axes[number, 1] < 0))


def _find_kind(file: io.IOBase) -> Any:
    """Return the nibabel class that reads a file, Nifti1Image or Nifti2Image.

    Refuses a file whose voxels start far behind the header, because nibabel reads all bytes before them.
    """
    import nibabel

    start = cast(io.BufferedIOBase, file).read(_HEADER_BYTES)
    kinds = (nibabel.Nifti1Image, nibabel.Nifti2Image)
    kind = next((kind for kind in kinds if kind.header_class.may_contain_header(start)), None)
    if kind is None:
        raise ValueError(f"no NIfTI header in {len(start)} bytes" if len(start) < _HEADER_BYTES else "no NIfTI header")
    at, size = (108, "f") if kind is nibabel.Nifti1Image else (168, "q")
    order = "<" if start[:4] in _LITTLE_ENDIAN else ">"
    offset = struct.unpack_from(order + size, start, at)[0]
    if not 0 <= offset <= MAX_HEADER_BYTES:
        raise ValueError(f"data from byte {offset}")
    return kind


def _read_to_end(file: gzip.GzipFile) -> None:
    """Read the rest of a compressed file, which makes gzip compare its checksum."""
    for _ in range(_MAX_BYTES_AFTER_VOXELS // _READ_BYTES):
        if not file.read(_READ_BYTES):
            return
    raise VolumeError(f"more than {_MAX_BYTES_AFTER_VOXELS} bytes after the voxels")


def choose_affine(header: Any, where: str) -> Affine:
    """Return the affine of a NIfTI header: the sform if it has a code, else the qform, else the voxel sizes alone.

    A form with zeros, NaN or no inverse is passed over for the other one, which is reported.

    Args:
        header: a nibabel.Nifti1Header or Nifti2Header.
        where: name of the file in the report.
    Raises:
        VolumeError: forms have a code, but none of them can be used.
    """
    forms = {"sform": header.get_sform, "qform": header.get_qform}
    faults: list[str] = []
    for name, read in forms.items():
        if int(header[f"{name}_code"]) == 0:
            continue
        try:
            affine = np.array(read(), np.float64)
            fault = _find_affine_fault(affine)
        except (ValueError, ArithmeticError) as error:
            fault = str(error)
        if not fault:
            if faults:
                print_message(f"{where}: {', '.join(faults)}; the {name} is used")
            affine[:, 3] = np.nan_to_num(affine[:, 3], posinf=0, neginf=0)  # slices do not depend on the origin
            return affine
        faults.append(f"{name} with {fault}")
    if faults:
        expected = "an sform or qform with an inverse: convert the scan again, or set one with nibabel's `set_qform`"
        raise VolumeError(f"no usable affine ({', '.join(faults)})", expected)
    return np.asarray(header.get_base_affine(), np.float64)


def _find_affine_fault(affine: Affine) -> str:
    """Return why the axes of an affine cannot be used; empty if they can."""
    if not np.isfinite(affine[:3, :3]).all():
        return "NaN or infinite values"
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not (lengths > 0).all():
        return "an axis of length 0"
    return "" if abs(np.linalg.det(affine[:3, :3] / lengths)) > _MIN_DETERMINANT else "parallel axes"


def to_millimetres(sides: Sides, shape: tuple[int, ...], header: Any) -> Sides:
    """Convert the sides of a voxel from the unit in a NIfTI header (metre, millimetre, micron) to millimetres."""
    sides_mm = sides * _UNIT_MM.get(int(header["xyzt_units"]) % 8, 1.0)
    return sides if (sides_mm * shape).max() > _MAX_EXTENT_MM else sides_mm
