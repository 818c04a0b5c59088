"""The PNG codec against Pillow."""

import io
import itertools
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from vqdist.data.shards.codecs import decode_png, encode_png
from vqdist.data.shards.png import MAGIC, check_png_chunks, pack_png, unpack_png
from vqdist.foundation.errors import DamagedDataError


def pixels(channels: int, *, height: int = 13, width: int = 21) -> np.ndarray:
    smooth = np.linspace(0, 300, height * width * channels).reshape(height, width, channels)
    return (smooth + np.random.default_rng(0).integers(0, 9, smooth.shape)).astype(np.uint8)


def pillow_png(image: np.ndarray, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(stream, format="PNG", **options)
    return stream.getvalue()


@pytest.mark.parametrize("channels", [1, 3])
def test_pillow_reads_packed_pngs(channels: int) -> None:
    image = pixels(channels)
    with Image.open(io.BytesIO(pack_png(image))) as picture:
        picture.load()
        assert np.array_equal(np.asarray(picture).reshape(image.shape), image)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("options", [{}, {"compress_level": 0}, {"optimize": True}])
def test_pngs_of_pillow_are_unpacked(channels: int, options: dict) -> None:
    image = pixels(channels)
    assert np.array_equal(unpack_png(pillow_png(image, **options), (13, 21), channels), image)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def rebuilt(rows: bytes, *, size: tuple[int, int], pieces: int = 1) -> bytes:
    header = struct.pack(">IIBBBBB", size[1], size[0], 8, 0, 0, 0, 0)
    packed = zlib.compress(rows)
    cuts = np.linspace(0, len(packed), pieces + 1).astype(int)
    data = b"".join(chunk(b"IDAT", packed[a:b]) for a, b in itertools.pairwise(cuts))
    return MAGIC + chunk(b"IHDR", header) + chunk(b"tEXt", b"a\0b") + data + chunk(b"IEND", b"")


def test_mixed_filters_and_several_data_chunks() -> None:
    rows = bytes([2, 5, 6, 7]) + bytes([1, 1, 1, 1]) + bytes([2, 1, 1, 1])
    expected = np.array([[5, 6, 7], [1, 2, 3], [2, 3, 4]], np.uint8)[:, :, None]
    for pieces in (1, 3):
        assert np.array_equal(unpack_png(rebuilt(rows, size=(3, 3), pieces=pieces), (3, 3), 1), expected)


def test_a_decompression_bomb_is_read_to_the_image_size_only() -> None:
    bomb = rebuilt(bytes([2, 1, 1, 1]) + b"\2" * 50_000_000, size=(3, 3))
    assert unpack_png(bomb, (3, 3), 1).shape == (3, 3, 1)


def test_damage_is_named() -> None:
    good = encode_png(pixels(1).transpose(2, 0, 1))
    short = rebuilt(bytes([2, 5, 6, 7]), size=(3, 3))
    for data, size in (
        (good[:-40], (13, 21)),
        (good[: len(good) // 2], (13, 21)),
        (good[:60] + bytes(20) + good[80:], (13, 21)),
        (good.replace(b"IDAT", b"iDAT"), (13, 21)),
        (short, (3, 3)),
        (pillow_png(pixels(1))[:-60], (13, 21)),
    ):
        with pytest.raises(DamagedDataError, match="here"):
            decode_png(data, image_size=size, channels=1, where="here")


def test_the_chunks_of_a_whole_png_pass() -> None:
    for data in (pack_png(pixels(3)), pillow_png(pixels(1)), rebuilt(bytes([0, 1, 2, 3]), size=(1, 3), pieces=2)):
        check_png_chunks(io.BytesIO(data))
        check_png_chunks(io.BytesIO(data + b"bytes after the end"))
        check_png_chunks(io.BytesIO(data.replace(b"tEXta", b"tEXtb")))  # a comment may be damaged
        check_png_chunks(io.BytesIO(data[:-12]))
    for data in (b"", b"GIF89a", MAGIC):
        check_png_chunks(io.BytesIO(data))


def test_every_flipped_bit_of_a_critical_chunk_is_found() -> None:
    good = rebuilt(bytes([0, 1, 2, 3]), size=(1, 3), pieces=2)
    comment = range(good.index(b"tEXt") - 4, good.index(b"tEXt") + 11)
    types = {at for kind in (b"IHDR", b"IDAT", b"IEND") for at in range(good.index(kind), good.index(kind) + 4)}
    assert good.count(b"IDAT") == 2
    last = range(good.rindex(b"IDAT"), good.rindex(b"IDAT") + 4)
    for at in set(range(len(MAGIC) + 4, len(good))) - set(comment) - types - set(last):
        damaged = good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]
        with pytest.raises(ValueError, match=r"chunk .* at byte \d+"):
            check_png_chunks(io.BytesIO(damaged))
    with pytest.raises(ValueError, match="the CRC of chunk plte at byte 33"):
        check_png_chunks(io.BytesIO(good[:33] + chunk(b"PLTE", b"abc").replace(b"PLTE", b"plte") + good[33:]))
    with pytest.raises(ValueError, match="the file ends inside chunk IDAT"):
        check_png_chunks(io.BytesIO(good[:-20]))
