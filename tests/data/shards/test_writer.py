"""Shards, manifest and reader: whole or not at all, the same bytes again, and no damage read in silence."""

import gc
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest

from vqdist.data.shards.codecs import decode_codes, decode_png, encode_codes, encode_png
from vqdist.data.shards.index import build_index, encode_index, index_path
from vqdist.data.shards.manifest import MANIFEST, Manifest, ShardInfo, SplitInfo, load_manifest
from vqdist.data.shards.writer import ShardReader, ShardSetWriter
from vqdist.foundation.atomic_files import find_leftovers
from vqdist.foundation.errors import DamagedDataError, DataError

SIZE = (6, 8)


def picture(number: int, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (channels, *SIZE), dtype=np.uint8)


def write_images(out: Path, samples: int = 10, channels: int = 1, **options: object) -> Path:
    """Write a data set of noise: `samples` in train, 2 in test, 4 in a shard."""
    with ShardSetWriter(
        out, kind="images", image_size=SIZE, channels=channels, samples_per_shard=4, **options
    ) as writer:
        for split, count in (("train", samples), ("test", 2)):
            for i in range(count):
                info = {"subject": f"{split}-{i // 3}", "slice": i % 3, "label": i % 2, "source": f"é{i}.png"}
                writer.write_image(split, f"{split}_{i:03d}", picture(i, channels), info)
    return out


def write_one_twice(out: Path, **options: object) -> None:
    with ShardSetWriter(out, kind="images", image_size=SIZE, channels=1, **options) as writer:
        for _ in range(2):
            writer.write_image("train", "a", picture(0), {})


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_images(tmp_path / "set")


def open_reader(folder: Path, split: str = "train") -> ShardReader:
    return ShardReader(folder, load_manifest(folder), split)


def test_every_sample_comes_back_as_it_was_written(images: Path) -> None:
    reader = open_reader(images)
    assert len(reader) == 10
    assert reader.shard_sizes.tolist() == [4, 4, 2]
    for i in (9, 0, 3, 4, 7, 8):
        sample = reader.read(i)
        assert (sample["__key__"], reader.key(i)) == (f"train_{i:03d}", f"train_{i:03d}")
        assert sample["__shard__"] == f"train/shard-{i // 4:06d}.tar"
        assert sample["json"] == {
            "subject": f"train-{i // 3}",
            "slice": i % 3,
            "label": i % 2,
            "source": f"é{i}.png",
        }
        assert reader.subject(i) == f"train-{i // 3}"
        assert np.array_equal(decode_png(sample["png"], image_size=SIZE, channels=1), picture(i))
    with pytest.raises(IndexError):
        reader.read(10)
    with pytest.raises(IndexError):
        reader.read(-1)


def test_manifest_tells_what_is_in_the_shards(images: Path) -> None:
    manifest = load_manifest(images)
    train = manifest.splits["train"]
    pixels = np.stack([picture(i) for i in range(10)]).astype(np.float64) / 255
    assert (train.samples, train.subjects, manifest.num_slices, manifest.num_labels) == (10, 4, 3, 2)
    assert train.mean == pytest.approx((pixels.mean(),), rel=1e-12)
    assert train.variance == pytest.approx((pixels.var(),), rel=1e-12)
    assert Manifest.from_json(json.loads(json.dumps(manifest.to_json()))) == manifest


def test_moments_are_per_channel(tmp_path: Path) -> None:
    train = load_manifest(write_images(tmp_path / "rgb", channels=3)).splits["train"]
    pixels = np.stack([picture(i, 3) for i in range(10)]).astype(np.float64) / 255
    assert train.mean == pytest.approx(pixels.mean(axis=(0, 2, 3)), rel=1e-12)
    assert train.variance == pytest.approx(pixels.var(axis=(0, 2, 3)), rel=1e-12)


def test_the_same_samples_give_the_same_bytes(images: Path, tmp_path: Path) -> None:
    again = write_images(tmp_path / "again")
    first, second = load_manifest(images), load_manifest(again)
    assert first == second
    assert first.fingerprint == second.fingerprint
    assert first.fingerprint != load_manifest(write_images(tmp_path / "other", samples=9)).fingerprint


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # WebDataset leaves shards to the garbage collector
def test_plain_webdataset_reads_the_shards(images: Path) -> None:
    import webdataset as wds

    shards = sorted(map(str, (images / "train").glob("*.tar")))
    samples = list(wds.WebDataset(shards, shardshuffle=False))
    gc.collect()
    assert [sample["__key__"] for sample in samples] == [f"train_{i:03d}" for i in range(10)]
    for i, sample in enumerate(samples):
        assert json.loads(sample["json"])["slice"] == i % 3
        assert np.array_equal(decode_png(sample["png"], image_size=SIZE, channels=1), picture(i))


def test_index_agrees_with_the_tar(images: Path) -> None:
    shard = images / "train" / "shard-000000.tar"
    data = shard.read_bytes()
    for sample in json.loads(index_path(shard).read_bytes())["samples"]:
        for extension, (offset, size, _) in sample["members"].items():
            with tarfile.open(shard) as tar:
                member = tar.extractfile(f"{sample['key']}.{extension}")
                assert member is not None
                assert member.read() == data[offset : offset + size]


def test_codes_round_trip(tmp_path: Path) -> None:
    out = tmp_path / "codes"
    maps = [np.random.default_rng(i).integers(0, 300, (3, 5)) for i in range(3)]
    with ShardSetWriter(
        out, kind="codes", image_size=(12, 20), channels=1, num_codes=300, grid=(3, 5), vqvae_fingerprint="f"
    ) as writer:
        (writer.folder / "vqvae").mkdir()
        for i, codes in enumerate(maps):
            writer.write_codes("test", f"k{i}", codes, {"subject": "s", "slice": None, "label": None})
    manifest = load_manifest(out)
    assert (manifest.kind, manifest.num_codes, manifest.grid) == ("codes", 300, (3, 5))
    assert manifest.splits["test"].mean is None
    assert (out / "vqvae").is_dir()
    reader = ShardReader(out, manifest, "test")
    for i, codes in enumerate(maps):
        data = reader.read(i)["npy"]
        assert np.array_equal(decode_codes(data, grid=(3, 5), num_codes=300), codes)
        assert np.array_equal(np.load(io.BytesIO(data), allow_pickle=False), codes)


@pytest.mark.parametrize(("num_codes", "width"), [(256, 1), (257, 2), (65537, 4)])
def test_codes_take_the_smallest_type(num_codes: int, width: int) -> None:
    codes = np.array([[0, num_codes - 1]])
    data = encode_codes(codes, num_codes)
    assert np.load(io.BytesIO(data)).dtype.itemsize == width
    assert np.array_equal(decode_codes(data, grid=(1, 2), num_codes=num_codes), codes)


def test_codes_refuse_what_is_no_map() -> None:
    good = encode_codes(np.full((2, 2), 9), 16)
    stream = io.BytesIO()
    np.save(stream, np.array([[None, 1]], dtype=object), allow_pickle=True)
    for data, num_codes in ((good, 9), (good[:-1], 16), (good + b"x", 16), (stream.getvalue(), 16), (b"", 16)):
        with pytest.raises(DamagedDataError, match="here"):
            decode_codes(data, grid=(2, 2), num_codes=num_codes, where="here")
    with pytest.raises(DamagedDataError):
        decode_codes(good, grid=(4, 1), num_codes=16)


def test_png_of_another_size_is_refused_before_it_is_decoded() -> None:
    good = encode_png(picture(0))
    bomb = good[:16] + struct.pack(">II", 20_000, 20_000) + good[24:]
    with pytest.raises(DamagedDataError, match="20000 x 20000"):
        decode_png(bomb, image_size=(256, 256), channels=1)
    for data in (good[: len(good) // 2], b"GIF89a" + good, good[:40] + b"\xff" * 40, b""):
        with pytest.raises(DamagedDataError):
            decode_png(data, image_size=SIZE, channels=1)
    with pytest.raises(DamagedDataError, match="of 1 channels"):
        decode_png(good, image_size=SIZE, channels=3)


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def read_all(folder: Path) -> list[dict]:
    reader = open_reader(folder)
    return [reader.read(i) for i in range(len(reader))]


def test_a_flipped_bit_in_a_payload_names_shard_and_sample(images: Path) -> None:
    shard = images / "train" / "shard-000001.tar"
    offset, size, _ = json.loads(index_path(shard).read_bytes())["samples"][2]["members"]["png"]
    flip(shard, offset + size // 2)
    with pytest.raises(DamagedDataError, match=r"shard-000001\.tar, sample train_006"):
        read_all(images)


@pytest.mark.parametrize("keep", [512 * 3, 512 * 4 + 7, 600])
def test_a_cut_shard_names_shard_and_sample(images: Path, keep: int) -> None:
    os.truncate(images / "train" / "shard-000000.tar", keep)
    with pytest.raises(DamagedDataError, match=r"shard-000000\.tar, sample train_000: found \d+ bytes"):
        read_all(images)


def test_header_damage_names_shard_and_sample(images: Path) -> None:
    shard = images / "train" / "shard-000000.tar"
    data = shard.read_bytes()
    for name, member in (("train_000", "train_000.json"), ("train_002", "train_002.png")):
        header = data.index(member.encode())
        for bit in (*range(148 * 8, 148 * 8 + 4), *range(0, 8 * 512, 61)):
            flipped = bytearray(data)
            flipped[header + bit // 8] ^= 1 << bit % 8
            shard.write_bytes(flipped)
            with pytest.raises(DamagedDataError, match=rf"shard-000000\.tar, sample {name}"):
                read_all(images)
        shard.write_bytes(data[:header] + bytes(512) + data[header + 512 :])
        with pytest.raises(DamagedDataError, match=rf"sample {name}: found a tar header"):
            read_all(images)


def test_missing_and_swapped_shards_are_named(images: Path) -> None:
    first, second = (images / "train" / f"shard-00000{i}.tar" for i in (0, 1))
    a, b = first.read_bytes(), second.read_bytes()
    if len(a) != len(b):
        pytest.skip("the two shards differ in size")
    first.write_bytes(b), second.write_bytes(a)
    with pytest.raises(DamagedDataError, match=r"shard-000000\.tar, sample train_000"):
        read_all(images)
    ia, ib = index_path(first).read_bytes(), index_path(second).read_bytes()
    index_path(first).write_bytes(ib), index_path(second).write_bytes(ia)
    with pytest.raises(DamagedDataError, match=r"shard-000000\.index\.json"):
        read_all(images)
    index_path(first).write_bytes(ia)
    first.unlink()
    with pytest.raises(DamagedDataError, match=r"shard-000000\.tar, sample train_000: found No such file"):
        read_all(images)
    index_path(first).unlink()
    with pytest.raises(DamagedDataError, match=r"shard-000000\.index\.json: found No such file"):
        read_all(images)


def test_an_index_that_lies_is_refused(images: Path) -> None:
    shard = images / "train" / "shard-000000.tar"
    path = images / MANIFEST
    manifest = json.loads(path.read_text())
    manifest["splits"]["train"]["shards"][0]["index_sha256"] = None
    path.write_text(json.dumps(manifest))
    good = json.loads(index_path(shard).read_text())
    for span in ([0, 2**40, 0], [-1, 5, 0], [0, 5], [0, 5, 2**32], ["0", 5, 0], [True, 5, 0], None):
        bad = json.loads(json.dumps(good))
        bad["samples"][1]["members"]["png"] = span
        index_path(shard).write_text(json.dumps(bad))
        with pytest.raises(DamagedDataError, match=r"index\.json, sample 1"):
            read_all(images)
    for text in ('{"samples": []}', "[]", "[" * 100_000, '{"samples": NaN}', "x" * 10**6):
        index_path(shard).write_text(text)
        with pytest.raises(DataError, match=r"index\.json"):
            read_all(images)


BAD_VALUES = [
    ("format_version", 2),
    ("kind", "pickles"),
    ("image_size", [6]),
    ("image_size", [10**6, 10**6]),
    ("channels", 2),
    ("channels", True),
    ("splits", []),
    ("splits.train.samples", 11),
    ("splits.train.mean", [0.1, 0.2]),
    ("splits.train.mean", [1e999]),
    ("splits.train.shards.0.name", "../shard.tar"),
    ("splits.train.shards.0.name", "/etc/shard.tar"),
    ("splits.train.shards.0.name", "train/shard.pkl"),
    ("splits.train.shards.0.samples", 2**40),
    ("splits.train.shards.0.bytes", "4"),
    ("splits.train.shards.0.sha256", "00"),
    ("class_names", [1]),
    ("num_slices", 1.5),
]


@pytest.mark.parametrize(("key", "value"), BAD_VALUES)
def test_a_manifest_that_lies_is_refused(images: Path, key: str, value: object) -> None:
    path = images / MANIFEST
    manifest = place = json.loads(path.read_text())
    *parents, last = key.split(".")
    for parent in parents:
        place = place[int(parent) if isinstance(place, list) else parent]
    place[last] = value
    path.write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=MANIFEST):
        load_manifest(images)


def test_no_data_set_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        load_manifest(tmp_path / "none")
    with pytest.raises(DataError, match=MANIFEST):
        load_manifest(tmp_path)
    with pytest.raises(DataError, match="train or test"):
        open_reader(write_images(tmp_path / "set"), "validate")


def test_an_exception_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a key that another sample has"):
        write_one_twice(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_output_is_refused_or_replaced(images: Path, tmp_path: Path) -> None:
    before = load_manifest(images)
    with pytest.raises(DataError, match="--overwrite"):
        write_images(images, samples=3)
    assert load_manifest(images) == before
    with pytest.raises(DataError, match="a key that another sample has"):
        write_one_twice(images, overwrite=True)
    assert load_manifest(images) == before
    write_images(images, samples=3, overwrite=True)
    assert load_manifest(images).splits["train"].samples == 3
    (tmp_path / "empty").mkdir()
    write_images(tmp_path / "empty")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "set"]
    assert not list((images / "train").glob("shard-000001*"))


KILLED_WRITER = """
import os, signal, sys
import numpy as np
from vqdist.data.shards.writer import ShardSetWriter
with ShardSetWriter(sys.argv[1], kind="images", image_size=(6, 8), channels=1, samples_per_shard=2) as writer:
    for i in range(int(sys.argv[2])):
        writer.write_image("train", f"k{i}", np.zeros((1, 6, 8), np.uint8), {})
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_writer_leaves_no_data_set(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED_WRITER, str(tmp_path / "out"), "5"])
    assert done.returncode == -9
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".out.tmp-")
    assert find_leftovers(tmp_path / "out") == [left]
    with pytest.raises(DataError, match="killed"):
        load_manifest(left)
    write_images(tmp_path / "out")


def test_a_reader_survives_pickle_and_fork(images: Path) -> None:
    reader = open_reader(images)
    expected = reader.read(5)
    copy = pickle.loads(pickle.dumps(reader))
    assert copy.read(5) == expected
    child = os.fork()
    if child == 0:
        os._exit(0 if [reader.read(i)["__key__"] for i in (5, 0, 9)] else 1)
    assert [reader.read(i)["__key__"] for i in (5, 0, 9)] == ["train_005", "train_000", "train_009"]
    assert os.waitpid(child, 0)[1] == 0


def test_a_reader_holds_few_files_and_indexes(images: Path) -> None:
    reader = ShardReader(images, load_manifest(images), "train", max_open=1, max_indexed=4)
    for i in (0, 9, 4, 1, 8):
        assert reader.read(i)["__key__"] == f"train_{i:03d}"
        assert len(reader._handles) == 1
        assert sum(len(index.keys) for index in reader._indexes.values()) <= 4


def test_a_manifest_of_ten_million_samples_opens_fast(tmp_path: Path) -> None:
    shards = tuple(ShardInfo(f"train/shard-{i:06d}.tar", 256, 2**22, "a" * 64, "b" * 64) for i in range(39_063))
    split = SplitInfo(shards, 256 * len(shards), 312_504, (0.2,), (0.1,))
    manifest = Manifest(kind="images", image_size=(256, 256), channels=1, splits={"train": split})
    (tmp_path / MANIFEST).write_text(json.dumps(manifest.to_json()))
    start_s = time.perf_counter()
    reader = open_reader(tmp_path)
    assert reader.locate(9_999_999) == (39062, 127)
    assert time.perf_counter() - start_s < 5


def damage_cases(data: bytes) -> dict[str, bytes]:
    """The damages of a tar that WebDataset reads over in silence (all but a flipped payload bit)."""
    header = data.index(b"train_001.json")
    flipped = bytearray(data)
    flipped[header + 3] ^= 1
    zeroed = bytearray(data)
    zeroed[header : header + 1024] = bytes(1024)
    return {
        "cut at a sample boundary": data[:header],
        "cut in a header": data[: header + 100],
        "cut between members": data[: data.index(b"train_001.png")],
        "a header bit": bytes(flipped),
        "two zeroed blocks": bytes(zeroed),
        "something behind the end": data + b"x" * 512,
    }


def test_indexing_sees_the_damage_of_a_tar(images: Path, tmp_path: Path) -> None:
    data = (images / "train" / "shard-000000.tar").read_bytes()
    for name, damaged in damage_cases(data).items():
        shard = tmp_path / f"{name}.tar"
        shard.write_bytes(damaged)
        with pytest.raises(DamagedDataError, match=f"{name}.tar, offset"):
            build_index(shard)


def make_tar(path: Path, name: str, data: bytes = b"x", **values: object) -> Path:
    with tarfile.open(path, "w") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        for key, value in values.items():
            setattr(member, key, value)
        tar.addfile(member, io.BytesIO(data) if member.isreg() else None)
    return path


def test_indexing_refuses_members_that_could_do_harm(tmp_path: Path) -> None:
    for name in ("../a.png", "/etc/a.png", "a/../../b.png"):
        with pytest.raises(DamagedDataError, match="a member named"):
            build_index(make_tar(tmp_path / "x.tar", name))
    with pytest.raises(DamagedDataError, match="no plain file"):
        build_index(make_tar(tmp_path / "x.tar", "a.png", type=tarfile.SYMTYPE, linkname="/etc/passwd"))
    claimed = tarfile.TarInfo("a.png")
    claimed.size = 2**40
    (tmp_path / "x.tar").write_bytes(claimed.tobuf(tarfile.GNU_FORMAT) + b"x" * 1024)
    with pytest.raises(DamagedDataError, match="1099511627776"):
        build_index(tmp_path / "x.tar")


def test_index_keeps_folders_and_splits_at_the_first_dot(tmp_path: Path) -> None:
    index = build_index(make_tar(tmp_path / "x.tar", "a.b/c.seg.png"))
    assert [(s["key"], list(s["members"])) for s in index["samples"]] == [("a.b/c", ["seg.png"])]
    assert json.loads(encode_index(index)) == index
