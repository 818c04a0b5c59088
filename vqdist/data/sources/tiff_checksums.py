"""Checksums of compressed TIFF data, which libtiff does not always compare."""

import zlib
from collections.abc import Mapping
from typing import Any, BinaryIO

_COMPRESSION = 259
_ZLIB_COMPRESSIONS = (8, 32946)
_OFFSETS_AND_SIZES = ((273, 279), (324, 325))  # of strips and of tiles
_READ_BYTES = 2**16
_MAX_UNPACKED_BYTES = 2**20  # at a time


def check_tiff_data(file: BinaryIO, tags: Mapping[int, Any]) -> None:
    """Compare the checksum of each zlib stream of a TIFF with its data; other compressions have none.

    Args:
        file: the file.
        tags: tag -> value of its only directory.
    Raises:
        ValueError: a checksum differs; names the strip or tile.
    """
    if tags.get(_COMPRESSION) not in _ZLIB_COMPRESSIONS:
        return
    for offsets_tag, sizes_tag in _OFFSETS_AND_SIZES:
        streams = zip(tags.get(offsets_tag, ()), tags.get(sizes_tag, ()), strict=False)
        for number, (offset, size) in enumerate(streams):
            file.seek(offset)
            try:
                _unpack(file, size)
            except zlib.error as error:
                raise ValueError(f"strip or tile {number}: {error}") from error


def _unpack(file: BinaryIO, size: int) -> None:
    """Decompress a stream and discard the result. A missing end is left to the decoder."""
    unpacker = zlib.decompressobj()
    while size > 0 and not unpacker.eof and (data := file.read(min(size, _READ_BYTES))):
        size -= len(data)
        while data and not unpacker.eof:
            unpacker.decompress(data, _MAX_UNPACKED_BYTES)
            data = unpacker.unconsumed_tail
