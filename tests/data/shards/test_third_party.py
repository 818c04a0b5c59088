"""Third-party shards: indexed once, read like any dataset, and refused if they are damaged or changed."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.noise_images import read_all

from vqdist.data.shards.codecs import decode_png
from vqdist.data.shards.manifest import load_manifest
from vqdist.data.shards.third_party import find_tars, index_third_party_shards
from vqdist.foundation.errors import DamagedDataError, DataError


def encode(number: int, kind: str, size: tuple[int, int] = (8, 6)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, (number * 20, 100, 200)).save(stream, kind)
    return stream.getvalue()


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Two shards of PNG and JSON for train, one of JPEG and a class for test."""
    for shard in range(2):
        members = {}
        for number in range(3 * shard, 3 * shard + 3):
            info = {"subject": f"p{number // 2}", "slice": number, "label": "odd"}
            members |= {f"été/{number}.png": encode(number, "PNG"), f"été/{number}.json": json.dumps(info).encode()}
        write_tar(tmp_path / "set" / f"train-{shard:03d}.tar", members)
    write_tar(tmp_path / "set" / "test-000.tar", {"x.jpg": encode(7, "JPEG"), "x.cls": b"4\n"})
    return tmp_path / "set"


def index(folder: Path, cache: Path) -> Path:
    return index_third_party_shards(folder, find_tars(folder), cache)


def test_third_party_shards_are_read_like_a_dataset(shards: Path, tmp_path: Path) -> None:
    root = index(shards, tmp_path / "cache")
    manifest = load_manifest(root)
    assert (manifest.image_size, manifest.channels, manifest.num_slices, manifest.num_labels) == ((6, 8), 3, 6, 5)
    train, test = manifest.splits["train"], manifest.splits["test"]
    assert (train.samples, train.subjects, test.samples) == (6, 3, 1)
    assert train.mean == pytest.approx((np.mean([20 * n for n in range(6)]) / 255, 100 / 255, 200 / 255))
    for number, sample in enumerate(read_all(root, "train")):
        assert sample["__key__"] == f"été/{number}"
        assert sample["json"] == {"subject": f"p{number // 2}", "slice": number, "label": None, "source": None}
        pixels = decode_png(sample["png"], image_size=(6, 8), channels=3)
        assert (pixels[0] == number * 20).all()
    (sample,) = read_all(root, "test")
    assert sample["json"]["label"] == 4
    assert decode_png(sample["png"], image_size=(6, 8), channels=3).shape == (3, 6, 8)


def test_shards_are_indexed_once(shards: Path, tmp_path: Path) -> None:
    root = index(shards, tmp_path / "cache")
    before = (root / "dataset.json").stat().st_mtime_ns
    assert index(shards, tmp_path / "cache") == root
    assert (root / "dataset.json").stat().st_mtime_ns == before
    (tmp_path / "link").symlink_to(shards)
    assert index(tmp_path / "link", tmp_path / "cache") == root
    write_tar(shards / "train-002.tar", {"y.png": encode(0, "PNG")})
    with pytest.raises(DataError, match="other shards than were indexed"):
        index(shards, tmp_path / "cache")


def test_splits_come_from_folders_and_names(tmp_path: Path) -> None:
    names = {
        "val/a.tar": "validate",
        "x/b_test-0001.tar": "test",
        "mytraining/c.tar": "train",
        "test/train-0.tar": "test",
    }
    for number, name in enumerate(names):
        write_tar(tmp_path / "set" / name, {f"{number}.png": encode(number, "PNG")})
    root = index(tmp_path / "set", tmp_path / "cache")
    for split in ("train", "validate", "test"):
        found = {int(sample["__key__"]) for sample in read_all(root, split)}
        assert found == {number for number, expected in enumerate(names.values()) if expected == split}


def test_damage_after_the_indexing_is_detected(shards: Path, tmp_path: Path) -> None:
    root = index(shards, tmp_path / "cache")
    data = bytearray((shards / "train-001.tar").read_bytes())
    data[data.index(b"IDAT") + 6] ^= 1
    (shards / "train-001.tar").write_bytes(data)
    with pytest.raises(DamagedDataError, match=r"shard-000001\.tar, sample été/3"):
        read_all(root, "train")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"a.png": encode(0, "PNG", (9, 9))}, "pictures of one size"),
        ({"a.pickle": b"x"}, "expected a picture"),
        ({"a.png": b"no png"}, "not a PNG"),
        ({"a.png": encode(0, "PNG"), "a.cls": b"cat"}, "a whole number"),
        ({"a.png": encode(0, "PNG"), "a.json": b"{"}, "invalid JSON"),
        ({"../a.png": encode(0, "PNG")}, "a member named"),
    ],
)
def test_unusable_shards_are_refused(shards: Path, tmp_path: Path, members: dict[str, bytes], message: str) -> None:
    write_tar(shards / "train-009.tar", members)
    with pytest.raises(DataError, match=message):
        index(shards, tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [".lock"]


def test_a_truncated_tar_is_refused(shards: Path, tmp_path: Path) -> None:
    path = shards / "train-001.tar"
    path.write_bytes(path.read_bytes()[: 1024 * 3])
    with pytest.raises(DamagedDataError, match=r"train-001\.tar, offset"):
        index(shards, tmp_path / "cache")
