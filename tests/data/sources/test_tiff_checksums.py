"""Checksums in TIFF files."""

import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vqdist.data.sources.pictures import load_picture
from vqdist.data.sources.tiff_checksums import check_tiff_data
from vqdist.foundation.errors import DataError


def write(path: Path, compression: str, side: int = 96) -> Path:
    pixels = np.add.outer(np.arange(side), np.arange(side)) % 200
    noise = np.random.default_rng(0).integers(0, 9, (side, side))
    Image.fromarray((pixels + noise).astype(np.uint8)).save(path, compression=compression)
    return path


def check(path: Path) -> None:
    with Image.open(path) as picture, open(path, "rb") as file:
        check_tiff_data(file, picture.tag_v2)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits"])
@pytest.mark.parametrize("side", [96, 700])
def test_whole_files_pass(tmp_path: Path, compression: str, side: int) -> None:
    check(write(tmp_path / "a.tif", compression, side))


def test_wrong_pixels_with_a_readable_stream_are_found(tmp_path: Path) -> None:
    """Of the flipped bits, some still give a stream that libtiff decodes."""
    path = write(tmp_path / "a.tif", "tiff_adobe_deflate")
    good, silent = path.read_bytes(), 0
    for at in range(2000, 6000, 61):
        path.write_bytes(good[:at] + bytes([good[at] ^ 16]) + good[at + 1 :])
        with pytest.raises(DataError, match=r"a\.tif: found (a damaged TIFF \(strip or tile 0|no readable picture)"):
            load_picture(path, image_size=96, channels=1)
        silent += _is_decoded(path)
    assert silent > 0, "otherwise the check is unnecessary"


def _is_decoded(path: Path) -> bool:
    try:
        with Image.open(path) as picture:
            picture.load()
    except OSError:
        return False
    return True


def test_each_tile_is_checked(tmp_path: Path) -> None:
    tiles = [zlib.compress(bytes([number]) * 999) for number in range(3)]
    tiles[2] = tiles[2][:-1] + bytes([tiles[2][-1] ^ 1])
    (tmp_path / "tiles").write_bytes(b"".join(tiles))
    sizes = tuple(map(len, tiles))
    tags = {259: 8, 324: (0, sizes[0], sum(sizes[:2])), 325: sizes}
    with open(tmp_path / "tiles", "rb") as file, pytest.raises(ValueError, match=r"strip or tile 2: .*data check"):
        check_tiff_data(file, tags)
    with open(tmp_path / "tiles", "rb") as file:
        check_tiff_data(file, {**tags, 259: 1})
        check_tiff_data(file, {**tags, 325: sizes[:2]})
