"""Payload codecs: round trips, and refusal of other sizes, types and truncated data."""

import io
import struct

import numpy as np
import pytest
from PIL import Image
from support.noise_images import NOISE_SIZE, make_noise

from vqdist.data.shards.codecs import decode_codes, decode_png, encode_codes, encode_png, is_turned, read_picture_size
from vqdist.foundation.errors import DamagedDataError


@pytest.mark.parametrize("channels", [1, 3])
def test_png_round_trip(channels: int) -> None:
    image = make_noise(0, channels)
    data = encode_png(image)
    assert read_picture_size(data, "here") == (NOISE_SIZE, channels)
    assert np.array_equal(decode_png(data, image_size=NOISE_SIZE, channels=channels), image)


def test_a_png_of_another_size_is_refused_before_it_is_decoded() -> None:
    good = encode_png(make_noise(0))
    bomb = good[:16] + struct.pack(">II", 20_000, 20_000) + good[24:]
    with pytest.raises(DamagedDataError, match="20000 x 20000"):
        decode_png(bomb, image_size=(256, 256), channels=1)
    for data in (good[: len(good) // 2], b"GIF89a" + good, good[:40] + b"\xff" * 40, b""):
        with pytest.raises(DamagedDataError):
            decode_png(data, image_size=NOISE_SIZE, channels=1)
    with pytest.raises(DamagedDataError, match="of 1 channels"):
        decode_png(good, image_size=NOISE_SIZE, channels=3)


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3)])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpegs_are_decoded_as_pillow_does(mode: str, channels: int, progressive: bool) -> None:
    stream = io.BytesIO()
    picture = Image.fromarray(make_noise(1, 3).transpose(1, 2, 0)).convert(mode)
    picture.save(stream, "JPEG", progressive=progressive)
    data = stream.getvalue()
    assert read_picture_size(data, "here") == (NOISE_SIZE, channels)
    expected = np.asarray(Image.open(io.BytesIO(data))).reshape(*NOISE_SIZE, channels).transpose(2, 0, 1)
    assert np.array_equal(decode_png(data, image_size=NOISE_SIZE, channels=channels), expected)
    for cut in (2, 20, len(data) // 2):
        with pytest.raises(DamagedDataError, match="here"):
            decode_png(data[:cut], image_size=NOISE_SIZE, channels=channels, where="here")


@pytest.mark.parametrize(("mode", "message"), [("RGBA", "colour type 6"), ("I;16", "16 bits"), ("P", "colour type 3")])
def test_pngs_of_other_types_are_refused_by_their_header(mode: str, message: str) -> None:
    stream = io.BytesIO()
    Image.new(mode, (8, 6)).save(stream, "PNG")
    with pytest.raises(DamagedDataError, match=message):
        read_picture_size(stream.getvalue(), "here")


def test_codes_round_trip() -> None:
    codes = np.random.default_rng(0).integers(0, 300, (3, 5))
    data = encode_codes(codes, 300)
    assert np.array_equal(decode_codes(data, grid=(3, 5), num_codes=300), codes)
    assert np.array_equal(np.load(io.BytesIO(data), allow_pickle=False), codes)


@pytest.mark.parametrize(("num_codes", "width"), [(256, 1), (257, 2), (65536, 2), (65537, 4)])
def test_codes_use_the_smallest_type(num_codes: int, width: int) -> None:
    codes = np.array([[0, num_codes - 1]])
    data = encode_codes(codes, num_codes)
    assert np.load(io.BytesIO(data)).dtype.itemsize == width
    assert np.array_equal(decode_codes(data, grid=(1, 2), num_codes=num_codes), codes)


def test_npy_files_that_are_no_map_are_refused() -> None:
    good = encode_codes(np.full((2, 2), 9), 16)
    stream = io.BytesIO()
    np.save(stream, np.array([[None, 1]], dtype=object), allow_pickle=True)
    for data, num_codes in ((good, 9), (good[:-1], 16), (good + b"x", 16), (stream.getvalue(), 16), (b"", 16)):
        with pytest.raises(DamagedDataError, match="here"):
            decode_codes(data, grid=(2, 2), num_codes=num_codes, where="here")
    with pytest.raises(DamagedDataError):
        decode_codes(good, grid=(4, 1), num_codes=16)


@pytest.mark.parametrize(("orientation", "turned"), [(None, False), (1, False), (3, True), (6, True), (99, False)])
def test_the_orientation_of_a_jpeg_is_read(orientation: int | None, turned: bool) -> None:
    stream, exif = io.BytesIO(), Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    Image.new("L", (8, 6)).save(stream, "JPEG", exif=exif)
    assert is_turned(stream.getvalue()) is turned
    assert not is_turned(encode_png(make_noise(0)))
    assert not is_turned(stream.getvalue()[:30])
