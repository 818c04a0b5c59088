"""Codecs of the two payloads: PNG slices and .npy maps of codes. Decoding never executes anything.

Both decoders compare the header with the manifest before they allocate memory for the payload, so a few damaged
bytes cannot request gigabytes.
"""

import io
import re
import struct
import warnings
import zlib

import numpy as np

from vqdist.data.shards.png import CHANNELS, MAGIC, pack_png, unpack_png
from vqdist.foundation.errors import DamagedDataError

# What zlib, struct and Pillow raise for a damaged picture.
PICTURE_ERRORS = (
    *(OSError, SyntaxError, ValueError, TypeError, EOFError, IndexError, KeyError, AttributeError),
    *(struct.error, zlib.error, OverflowError, MemoryError, RuntimeError),
)
_GREY_OR_RGB = "8 bits, grey or RGB; `vqdist shard` converts others, from tars or a folder"
_COLOUR_TYPES = {0: "grey", 2: "RGB", 3: "palette", 4: "grey with transparency", 6: "RGB with transparency"}
_JPEG_MAGIC = b"\xff\xd8\xff"
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_EXIF_WITHIN = 2**17  # bytes; the EXIF segment comes before the picture
_ORIENTATION_TAG = 0x0112
_NPY_MAGIC = b"\x93NUMPY\x01\x00"
_NPY_HEADER = re.compile(
    r"\{'descr': '(\|u1|<u2|<i4)', 'fortran_order': False, 'shape': \((\d{1,9}), (\d{1,9})\), \} *\n"
)


def encode_png(image: np.ndarray) -> bytes:
    """Encode a slice, (C, H, W) uint8 with C 1 or 3, as a PNG."""
    assert image.dtype == np.uint8, image.dtype
    assert image.ndim == 3, image.shape
    return pack_png(image.transpose(1, 2, 0))


def decode_png(data: bytes, *, image_size: tuple[int, int], channels: int, where: str = "a PNG") -> np.ndarray:
    """Decode a slice from an 8-bit grey or RGB PNG, or from a JPEG (third-party shards).

    Args:
        image_size: (H, W) of the manifest; another size is refused before pixels are decoded.
        channels: channels of the manifest, 1 or 3; likewise.
        where: name of the picture in an error.
    Returns:
        (C, H, W) uint8.
    Raises:
        DamagedDataError: no picture, another size or type, or truncated.
    """
    found = read_picture_size(data, where)
    if found != (tuple(image_size), channels):
        (rows, columns), depth = found
        raise DamagedDataError.of(
            where,
            f"{rows} x {columns} pixels of {depth} channels",
            f"{image_size[0]} x {image_size[1]} pixels of {channels}",
        )
    try:
        pixels = unpack_png(data, image_size, channels) if data[:8] == MAGIC else _decode_jpeg(data)
    except PICTURE_ERRORS as error:
        raise DamagedDataError.of(where, f"a picture that cannot be decoded ({error})", "a whole picture") from error
    expected = (*image_size, channels)
    if pixels.shape != expected or pixels.dtype != np.uint8:
        raise DamagedDataError.of(where, f"{pixels.dtype} pixels of {pixels.shape}", f"uint8 of {expected}")
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _decode_jpeg(data: bytes) -> np.ndarray:
    from PIL import Image

    with Image.open(io.BytesIO(data), formats=("JPEG",)) as picture:
        pixels = np.asarray(picture)
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def read_picture_size(data: bytes, where: str) -> tuple[tuple[int, int], int]:
    """Return ((H, W), channels) of an 8-bit grey or RGB PNG or JPEG, from its header.

    Raises:
        DamagedDataError: the data have no such header.
    """
    if data[:3] == _JPEG_MAGIC:
        return _read_jpeg_size(data, where)
    if len(data) < 33 or data[:8] != MAGIC or data[12:16] != b"IHDR":
        raise DamagedDataError.of(where, f"{len(data)} bytes that are not a PNG", "a PNG or a JPEG")
    width, height, depth, colour = struct.unpack(">IIBB", data[16:26])
    if depth != 8 or colour not in CHANNELS:
        raise DamagedDataError.of(
            where, f"a PNG of {depth} bits, colour type {colour} ({_COLOUR_TYPES.get(colour, 'unknown')})", _GREY_OR_RGB
        )
    return (height, width), CHANNELS[colour]


def _read_jpeg_size(data: bytes, where: str) -> tuple[tuple[int, int], int]:
    """Follow a JPEG's segments to its frame header."""
    at = 2
    while at + 10 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker in _JPEG_FRAMES:
            height, width, channels = struct.unpack(">HHB", data[at + 5 : at + 10])
            if data[at + 4] == 8 and channels in (1, 3):
                return (height, width), channels
            break
        at += 2 + length if length >= 2 else len(data)
    raise DamagedDataError.of(where, "a JPEG without a supported frame", _GREY_OR_RGB)


def is_turned(data: bytes) -> bool:
    """Return whether a picture is a JPEG with an EXIF orientation other than upright, which `decode_png` ignores."""
    from PIL import Image

    if data[:3] != _JPEG_MAGIC or b"Exif\0\0" not in data[:_EXIF_WITHIN]:
        return False
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data), formats=("JPEG",)) as picture:
            return picture.getexif().get(_ORIENTATION_TAG, 1) in range(2, 9)
    except PICTURE_ERRORS:  # of the EXIF data; those of the pixels are found where they are decoded
        return False


def encode_codes(codes: np.ndarray, num_codes: int) -> bytes:
    """Encode a map of codes as an .npy, in the smallest of uint8, uint16 and int32 that holds num_codes.

    Args:
        codes: (h, w) integers in [0, num_codes).
        num_codes: K.
    """
    codes = np.asarray(codes)
    assert codes.ndim == 2, codes.shape
    assert codes.size == 0 or (codes.min() >= 0 and codes.max() < num_codes), "a code out of range"
    dtype = "|u1" if num_codes <= 2**8 else "<u2" if num_codes <= 2**16 else "<i4"
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': ({codes.shape[0]}, {codes.shape[1]}), }}"
    header += " " * (-(len(_NPY_MAGIC) + 2 + len(header) + 1) % 64) + "\n"
    return _NPY_MAGIC + struct.pack("<H", len(header)) + header.encode() + codes.astype(dtype).tobytes()


def decode_codes(data: bytes, *, grid: tuple[int, int], num_codes: int, where: str = "an .npy") -> np.ndarray:
    """Decode a map of codes from an .npy, version 1.0, of uint8, uint16 or int32.

    The header is matched by a regular expression, because NumPy's reader also accepts pickled objects.

    Args:
        grid: (h, w) of the manifest.
        num_codes: K of the manifest.
        where: name of the map in an error.
    Returns:
        (h, w) int64 in [0, K).
    Raises:
        DamagedDataError: another header, shape or length, or a code out of range.
    """
    length = struct.unpack("<H", data[8:10])[0] if data[:8] == _NPY_MAGIC and len(data) >= 10 else 0
    match = _NPY_HEADER.fullmatch(data[10 : 10 + length].decode("latin-1"))
    if match is None:
        raise DamagedDataError.of(where, "no .npy of plain integers", "a map of uint8, uint16 or int32 codes")
    dtype, shape = np.dtype(match[1]), (int(match[2]), int(match[3]))
    if shape != tuple(grid) or len(data) != 10 + length + shape[0] * shape[1] * dtype.itemsize:
        raise DamagedDataError.of(where, f"a map of {shape} in {len(data)} bytes", f"a whole map of {tuple(grid)}")
    codes = np.frombuffer(data, dtype, offset=10 + length).reshape(shape).astype(np.int64)
    if codes.size and (codes.min() < 0 or codes.max() >= num_codes):
        raise DamagedDataError.of(where, f"codes from {codes.min()} to {codes.max()}", f"0 to {num_codes - 1}")
    return codes
