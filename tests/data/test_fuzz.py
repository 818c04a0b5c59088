"""Readers of data with damaged bytes as input: a DataError, or the correct data, and nothing else.

The long version, `pytest -m long tests/data/test_fuzz.py`, tries 170,000 inputs.
"""

import json
import random
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from vqdist.data.shards.codecs import decode_codes, decode_png, encode_codes, encode_png
from vqdist.data.shards.index import build_index, index_path
from vqdist.data.shards.manifest import MANIFEST, Manifest, load_manifest
from vqdist.data.shards.reader import ShardReader
from vqdist.data.shards.writer import ShardSetWriter
from vqdist.data.sources.pictures import load_picture
from vqdist.data.sources.volumes import slice_volume
from vqdist.foundation.errors import DataError
from vqdist.foundation.json_validation import parse_json

IMAGE = np.arange(48, dtype=np.uint8).reshape(1, 6, 8)
CODES = np.arange(48).reshape(6, 8)
TOKENS = (b"null", b"-1", b"1e999", b"99999999999999999999", b'""', b"[]", b"{}", b"true", b"NaN", b"../", b"\\u0000")

Attempt = Callable[[bytes], None]


def damage(data: bytes, rng: random.Random) -> bytes:
    """Flip, delete, zero, duplicate or replace some of the bytes."""
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        start = rng.randrange(len(found) + 1)
        stop = min(len(found), start + rng.choice((1, 4, 32, 512)))
        kind = rng.randrange(6)
        if kind == 0 and start < len(found):
            found[start] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del found[start:stop]
        elif kind == 2:
            found[start:stop] = bytes(stop - start)
        elif kind == 3:
            found[start:start] = found[start:stop]
        elif kind == 4:
            found[start:stop] = rng.randbytes(stop - start)
        else:
            found[start : start + rng.choice((0, 1, 3))] = rng.choice(TOKENS)
    return bytes(found)


def write_set(folder: Path) -> Path:
    with ShardSetWriter(folder, kind="images", image_size=(6, 8), channels=1, samples_per_shard=2) as writer:
        for number in range(4):
            info = {"subject": f"s{number}", "slice": number, "label": None, "source": "x"}
            writer.write_image("train", f"k{number}", IMAGE + number, info)
    return folder


def read_set(folder: Path) -> list[dict]:
    reader = ShardReader(folder, load_manifest(folder), "train")
    return [reader.read(number) for number in range(len(reader))]


def png_attempt(folder: Path) -> tuple[bytes, Attempt]:
    def attempt(data: bytes) -> None:
        assert decode_png(data, image_size=(6, 8), channels=1).shape == IMAGE.shape

    return encode_png(IMAGE), attempt


def codes_attempt(folder: Path) -> tuple[bytes, Attempt]:
    def attempt(data: bytes) -> None:
        codes = decode_codes(data, grid=(6, 8), num_codes=48)
        assert codes.shape == (6, 8)
        assert 0 <= codes.min() <= codes.max() < 48

    return encode_codes(CODES, 48), attempt


def manifest_attempt(folder: Path) -> tuple[bytes, Attempt]:
    def attempt(data: bytes) -> None:
        manifest = Manifest.from_json(parse_json(data, "m"))
        assert Manifest.from_json(json.loads(json.dumps(manifest.to_json()))) == manifest

    return (write_set(folder / "set") / MANIFEST).read_bytes(), attempt


def shard_attempt(folder: Path) -> tuple[bytes, Attempt]:
    """A damaged tar with a correct index: the bytes that were written, or an error."""
    root = write_set(folder / "set")
    shard, expected = root / "train" / "shard-000000.tar", read_set(root)

    def attempt(data: bytes) -> None:
        shard.write_bytes(data)
        assert read_set(root) == expected

    return shard.read_bytes(), attempt


def index_attempt(folder: Path) -> tuple[bytes, Attempt]:
    """A damaged index without a sha256 in the manifest: still no wrong bytes with a correct crc32."""
    root = write_set(folder / "set")
    manifest = json.loads((root / MANIFEST).read_text())
    for info in manifest["splits"]["train"]["shards"]:
        info["index_sha256"] = None
    (root / MANIFEST).write_text(json.dumps(manifest))
    index = index_path(root / "train" / "shard-000000.tar")
    payloads = {sample["png"] for sample in read_set(root)}

    def attempt(data: bytes) -> None:
        index.write_bytes(data)
        assert {sample["png"] for sample in read_set(root)} <= payloads | {b""}

    return index.read_bytes(), attempt


def tar_attempt(folder: Path) -> tuple[bytes, Attempt]:
    """A damaged tar that is indexed."""
    shard = write_set(folder / "set") / "train" / "shard-000000.tar"

    def attempt(data: bytes) -> None:
        shard.write_bytes(data)
        build_index(shard)

    return shard.read_bytes(), attempt


def picture_attempt(folder: Path) -> tuple[bytes, Attempt]:
    """A damaged PNG: the picture that was written, or an error, because of the checksums of its chunks."""
    path = folder / "picture"
    path.write_bytes(encode_png(IMAGE))
    expected = load_picture(path, image_size=8, channels=1)

    def attempt(data: bytes) -> None:
        path.write_bytes(data)
        assert np.array_equal(load_picture(path, image_size=8, channels=1), expected)

    return encode_png(IMAGE), attempt


def volume_attempt(folder: Path) -> tuple[bytes, Attempt]:
    path = folder / "volume.nii"
    nibabel.save(nibabel.Nifti1Image(np.arange(60, dtype=np.int16).reshape(5, 4, 3), np.eye(4)), path)

    def attempt(data: bytes) -> None:
        path.write_bytes(data)
        assert slice_volume(path, num_slices=2, image_size=8).shape[1:] == (8, 8)

    return path.read_bytes(), attempt


def compressed_volume_attempt(folder: Path) -> tuple[bytes, Attempt]:
    """A damaged .nii.gz: the volume that was written, or an error, because of the checksum of gzip."""
    path = folder / "volume.nii.gz"
    voxels = np.random.default_rng(0).integers(1, 90, (9, 8, 7)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), path)
    expected = slice_volume(path, num_slices=2, image_size=8)

    def attempt(data: bytes) -> None:
        path.write_bytes(data)
        assert np.array_equal(slice_volume(path, num_slices=2, image_size=8), expected)

    return path.read_bytes(), attempt


ATTEMPTS = [
    *(png_attempt, codes_attempt, manifest_attempt, shard_attempt, index_attempt, tar_attempt),
    *(picture_attempt, volume_attempt, compressed_volume_attempt),
]


def fuzz(folder: Path, build: Callable[[Path], tuple[bytes, Attempt]], count: int, seed: int) -> int:
    """Try damaged inputs; return how many were refused."""
    good, attempt = build(folder)
    attempt(good)
    refused = 0
    for number in range(count):
        rng = random.Random(f"{seed} {number}")
        data = damage(good, rng)
        try:
            attempt(data)
        except DataError:
            refused += 1
        except BaseException as error:
            error.add_note(f"{build.__name__}, seed {seed}, input {number}: {data!r}")
            raise
    return refused


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("build", ATTEMPTS)
def test_damaged_bytes_are_refused_or_read_correctly(tmp_path: Path, build: Callable) -> None:
    assert fuzz(tmp_path, build, 250, seed=0) > 50


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("build", ATTEMPTS)
def test_many_damaged_bytes_are_refused_or_read_correctly(tmp_path: Path, build: Callable) -> None:
    assert fuzz(tmp_path, build, 18_750, seed=1) > 4000
