"""Reading of pictures: every mode, transparency, orientation, scaling of grey values, and damaged files."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vqdist.data.sources.pictures import (
    has_colour,
    load_picture,
    measure_grey_range,
    pad_to_square,
    picture_extensions,
    resize,
    robust_range,
    scale_grey,
)
from vqdist.foundation.errors import DataError


def gradient(dtype: type, high: int) -> np.ndarray:
    return np.linspace(0, high, 64).reshape(8, 8).astype(dtype)


def test_every_mode_gives_the_same_grey(tmp_path: Path) -> None:
    grey = gradient(np.uint8, 252)
    pictures = {
        "8.png": Image.fromarray(grey),
        "16.png": Image.fromarray(grey.astype(np.uint16) * 257),
        "16.tif": Image.fromarray(grey.astype(np.uint16) * 257),
        "32.tif": Image.fromarray(grey.astype(np.int32) * 257),
        "p.png": Image.fromarray(grey).convert("P"),
        "rgb.bmp": Image.fromarray(grey).convert("RGB"),
        "rgba.png": Image.fromarray(grey).convert("RGBA"),
        "la.png": Image.fromarray(grey).convert("LA"),
        "l.webp": Image.fromarray(grey).convert("RGB"),
    }
    for name, picture in pictures.items():
        picture.save(tmp_path / name, **({"lossless": True} if name.endswith("webp") else {}))
        found = load_picture(tmp_path / name, image_size=8, channels=1)
        assert np.abs(found[0].astype(int) - grey).max() <= 1, name
        colour = load_picture(tmp_path / name, image_size=8, channels=3)
        assert np.abs(colour.astype(int) - grey).max() <= 1, name
    Image.fromarray(gradient(np.float32, 1)).save(tmp_path / "f.tif")
    assert load_picture(tmp_path / "f.tif", image_size=8, channels=1).max() == 255
    Image.new("1", (8, 8), 1).save(tmp_path / "1.png")
    assert load_picture(tmp_path / "1.png", image_size=8, channels=1).min() == 255


def test_transparent_pixels_are_black(tmp_path: Path) -> None:
    pixels = np.full((8, 8, 4), 200, np.uint8)
    pixels[:4, :, 3], pixels[4:, :, 3] = 0, 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    found = load_picture(tmp_path / "a.png", image_size=8, channels=3)
    assert (found[:, :4] == 0).all()
    assert (found[:, 4:] == 200).all()
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([250, 250, 250, 0, 0, 0])
    palette.save(tmp_path / "p.png", transparency=0)
    assert load_picture(tmp_path / "p.png", image_size=8, channels=1).max() == 0


def test_pictures_are_padded_not_stretched(tmp_path: Path) -> None:
    Image.new("L", (100, 40), 255).save(tmp_path / "wide.png")
    found = load_picture(tmp_path / "wide.png", image_size=50, channels=1)[0]
    assert (found[16:34] == 255).all()
    assert (found[:14] == 0).all()
    assert (found[36:] == 0).all()
    assert abs((found > 127).sum() - 20 * 50) <= 50
    turned = Image.new("L", (100, 40), 255)
    exif = turned.getexif()
    exif[274] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    found = load_picture(tmp_path / "turned.jpg", image_size=50, channels=1)[0]
    assert found[25, 0] < 5
    assert found[0, 25] > 250


def test_unreadable_pictures_are_named(tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.fromarray(gradient(np.uint8, 255).repeat(40, 0).repeat(40, 1)).save(stream, "PNG")
    header = b"IHDR" + struct.pack(">IIBBBBB", 40_000, 40_000, 8, 0, 0, 0, 0)
    bomb = stream.getvalue()[:12] + header + struct.pack(">I", zlib.crc32(header)) + stream.getvalue()[33:]
    (tmp_path / "bomb.png").write_bytes(bomb)
    frames = [Image.new("L", (4, 4), grey) for grey in (0, 90, 200)]
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:])
    (tmp_path / "cut.png").write_bytes(stream.getvalue()[:200])
    (tmp_path / "text.jpg").write_text("not a picture")
    (tmp_path / "empty.tif").touch()
    (tmp_path / "script.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    for name in ("bomb.png", "film.gif", "cut.png", "text.jpg", "empty.tif", "script.png", "none.png"):
        with pytest.raises(DataError, match=name):
            load_picture(tmp_path / name, image_size=8, channels=1)


def test_colour_is_found_in_any_mode(tmp_path: Path) -> None:
    Image.new("L", (4, 4)).convert("P").save(tmp_path / "grey-palette.png")
    Image.new("RGB", (4, 4), "red").convert("P").save(tmp_path / "colour-palette.gif")
    Image.new("RGB", (4, 4)).save(tmp_path / "rgb.png")
    Image.fromarray(gradient(np.uint16, 65535)).save(tmp_path / "16.png")
    (tmp_path / "text.png").write_text("no picture")
    found = {path.name: has_colour(path) for path in tmp_path.iterdir()}
    assert {name for name, colour in found.items() if colour} == {"colour-palette.gif", "rgb.png"}


def test_extensions_of_formats_that_start_programs_are_not_read() -> None:
    assert {".png", ".jpg", ".jpeg", ".tif", ".bmp", ".webp"} <= picture_extensions()
    assert not {".eps", ".ps", ".pdf", ".wmf"} & picture_extensions()


def test_sixteen_bit_values_are_scaled_by_their_type() -> None:
    assert scale_grey(np.array([[0, 257, 65535]]), sixteen_bits=True).tolist() == [[0, 1, 255]]
    # Beyond 16 bits, and for floats, by their own range.
    assert scale_grey(np.array([[0, 1, 100_000]]), sixteen_bits=True)[0, -1] == 255
    found = scale_grey(np.array([[0.0, 0.5, 1.0, np.nan, np.inf, -np.inf]]), sixteen_bits=False)
    assert found.tolist() == [[0, 128, 255, 0, 255, 0]]


def test_the_range_ignores_few_bright_values_and_the_background() -> None:
    rng = np.random.default_rng(0)
    volume = np.zeros((20, 20, 20))
    volume[5:15, 5:15, 5:15] = rng.uniform(1, 100, (10, 10, 10))
    volume[10, 10, 10] = 1e6
    low, high = robust_range(volume)
    assert low == 0
    assert high == pytest.approx(np.percentile(volume[volume > 0], 99.8))
    assert high < 101
    hounsfield = np.full((20, 20, 20), -1000.0)
    hounsfield[5:15, 5:15, 5:15] = rng.uniform(-100, 100, (10, 10, 10))
    low, high = robust_range(hounsfield)
    assert -101 < low < -95
    assert 95 < high < 101
    for flat, message in ((np.zeros((3, 3)), "the same value"), (np.full((3, 3), np.nan), "no finite value")):
        with pytest.raises(ValueError, match=message):
            robust_range(flat)


def test_padding_centres_an_image() -> None:
    padded = pad_to_square(np.ones((2, 5, 3), np.uint8), side=8)
    assert padded.shape == (8, 8, 3)
    assert padded[3:5, 1:6].all()
    assert padded.sum() == 2 * 5 * 3
    assert pad_to_square(np.ones((2, 5))).shape == (5, 5)


def test_resizing_averages_when_it_shrinks() -> None:
    checkers = (np.indices((16, 16)).sum(0) % 2 * 200).astype(np.float32)
    assert np.abs(resize(checkers, (4, 4))[1:-1, 1:-1] - 100).max() < 10
    assert resize(checkers, (16, 16)) is checkers
    assert resize(np.zeros((4, 6, 3), np.uint8), (8, 3)).shape == (8, 3, 3)


def exif_block(entries: list[tuple[int, int, bytes]]) -> bytes:
    """Return EXIF data, a little-endian TIFF of one directory, with (tag, type, value) entries of one value each."""
    body, extra, offset = struct.pack("<H", len(entries)), b"", 8 + 2 + 12 * len(entries) + 4
    for tag, kind, value in entries:
        place = struct.pack("<I", offset + len(extra)) if len(value) > 4 else value.ljust(4, b"\0")
        body += struct.pack("<HHI", tag, kind, 1) + place
        extra += value if len(value) > 4 else b""
    return b"II*\0" + struct.pack("<I", 8) + body + struct.pack("<I", 0) + extra


def insert_png_chunk(data: bytes, kind: bytes, payload: bytes) -> bytes:
    """Insert a chunk behind the header of a PNG."""
    chunk = struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))
    return data[:33] + chunk + data[33:]


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp"])
def test_a_readable_orientation_beside_invalid_tags_is_applied(tmp_path: Path, name: str) -> None:
    exif = b"Exif\0\0" + exif_block([(274, 3, struct.pack("<H", 6)), (282, 10, struct.pack("<ii", -1, 0))])
    picture = Image.new("L", (100, 40), 255)
    if name == "a.png":
        picture.save(tmp_path / name)
        (tmp_path / name).write_bytes(insert_png_chunk((tmp_path / name).read_bytes(), b"eXIf", exif[6:]))
    else:
        picture.save(tmp_path / name, exif=exif)
    found = load_picture(tmp_path / name, image_size=50, channels=1)[0]
    assert found[25, 0] < 5
    assert found[0, 25] > 250


@pytest.mark.parametrize("rubbish", [b"\0\x08\0\x02\x01\x12\0\x03" + bytes(20), b"\xff" * 40, b"II*\0", b"I"])
def test_a_picture_with_unreadable_exif_is_used_as_stored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rubbish: bytes
) -> None:
    grey = gradient(np.uint8, 252)
    Image.fromarray(grey).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes(insert_png_chunk((tmp_path / "a.png").read_bytes(), b"eXIf", rubbish))
    Image.fromarray(grey).resize((8, 8)).save(tmp_path / "a.webp", lossless=True, exif=b"Exif\0\0" + rubbish)
    for name in ("a.png", "a.webp"):
        found = load_picture(tmp_path / name, image_size=8, channels=1)[0]
        assert np.abs(found.astype(int) - grey).max() <= 1, name
    said = capsys.readouterr().err
    assert not said or "a.png: EXIF data cannot be read (" in said
    if rubbish[:1] != b"I":
        assert said.count("the picture is used as it is stored") == 2


def test_damage_that_only_the_checksum_of_a_png_shows_is_found(tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 9, (40, 40), dtype=np.uint8)).save(stream, "PNG")
    good, path = stream.getvalue(), tmp_path / "a.png"
    path.write_bytes(good)
    expected = load_picture(path, image_size=40, channels=1)
    start = good.index(b"IDAT") + 4
    for at in range(start + 2, len(good) - 16, 37):
        path.write_bytes(good[:at] + bytes([good[at] ^ 4]) + good[at + 1 :])
        with pytest.raises(DataError, match=r"a\.png: found a damaged PNG \(the CRC of chunk IDAT at byte"):
            load_picture(path, image_size=40, channels=1)
    path.write_bytes(good + b"more bytes")
    assert np.array_equal(load_picture(path, image_size=40, channels=1), expected)


@pytest.mark.parametrize("value", [0, -3])
def test_float_and_32_bit_pictures_without_contrast_are_black(tmp_path: Path, value: int) -> None:
    for dtype in (np.float32, np.int32):
        Image.fromarray(np.full((8, 8), value, dtype)).save(tmp_path / "a.tif")
        assert load_picture(tmp_path / "a.tif", image_size=8, channels=1).max() == 0
    Image.fromarray(np.full((8, 8), np.nan, np.float32)).save(tmp_path / "nan.tif")
    with pytest.raises(DataError, match=r"nan\.tif: found no readable picture \(no finite value\)"):
        load_picture(tmp_path / "nan.tif", image_size=8, channels=1)


def test_limits_replace_the_range_of_a_picture(tmp_path: Path) -> None:
    Image.fromarray(gradient(np.float32, 1)).save(tmp_path / "f.tif")
    found = load_picture(tmp_path / "f.tif", image_size=8, channels=1, read_ranges=lambda: {"float": (0.0, 2.0)})
    assert found.max() == 128
    alone = load_picture(tmp_path / "f.tif", image_size=8, channels=1, read_ranges=lambda: {"integer": (0.0, 2.0)})
    assert alone.max() == 255


def test_ranges_are_measured_for_more_than_8_bits(tmp_path: Path) -> None:
    pictures = {
        "8.png": (gradient(np.uint8, 200), None),
        "16.png": (gradient(np.uint16, 9000), ("integer", (0, 65535))),
        "small.tif": (gradient(np.int32, 9000), ("integer", (0, 65535))),
        "12.png": (gradient(np.uint16, 3000), ("integer", robust_range(gradient(np.uint16, 3000)))),
        "black.tif": (gradient(np.float32, 0), ("float", None)),
    }
    for name, (values, expected) in pictures.items():
        Image.fromarray(values).save(tmp_path / name)
        assert measure_grey_range(tmp_path / name) == expected, name
    Image.fromarray(gradient(np.float32, 4)).save(tmp_path / "f.tif")
    assert measure_grey_range(tmp_path / "f.tif") == ("float", robust_range(gradient(np.float32, 4)))
    assert measure_grey_range(tmp_path / "none.tif") is None
