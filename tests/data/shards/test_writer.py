"""The writer of a dataset: it appears as a whole, with the same bytes each time, and plain WebDataset reads it."""

import gc
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.noise_images import NOISE_SIZE, make_noise, open_reader, write_noise_set

from vqdist.data.shards.codecs import decode_codes, decode_png, encode_codes, encode_png
from vqdist.data.shards.manifest import load_manifest
from vqdist.data.shards.writer import PixelHistogram, ShardSetWriter
from vqdist.foundation.atomic_files import find_leftovers
from vqdist.foundation.errors import DamagedDataError, DataError


def write_one_twice(out: Path, **options: object) -> None:
    with ShardSetWriter(out, kind="images", image_size=NOISE_SIZE, channels=1, **options) as writer:
        for _ in range(2):
            writer.write_image("train", "a", make_noise(0), {})


def test_the_same_samples_give_the_same_bytes(noise_set: Path, tmp_path: Path) -> None:
    again = write_noise_set(tmp_path / "again")
    assert load_manifest(noise_set) == load_manifest(again)
    for path in noise_set.rglob("*.*"):
        assert path.read_bytes() == (again / path.relative_to(noise_set)).read_bytes()


def test_images_and_encoded_images_give_the_same_bytes(noise_set: Path, tmp_path: Path) -> None:
    with ShardSetWriter(
        tmp_path / "encoded", kind="images", image_size=NOISE_SIZE, channels=1, samples_per_shard=4
    ) as writer:
        for split in ("train", "test"):
            reader = open_reader(noise_set, split)
            for sample in map(reader.read, range(len(reader))):
                writer.write(split, sample["__key__"], encode_png(make_noise(reader_number(sample))), sample["json"])
    assert load_manifest(tmp_path / "encoded") == load_manifest(noise_set)


def reader_number(sample: dict) -> int:
    return int(sample["__key__"].rpartition("_")[2])


def test_statistics_are_per_channel(tmp_path: Path) -> None:
    train = load_manifest(write_noise_set(tmp_path / "rgb", channels=3)).splits["train"]
    pixels = np.stack([make_noise(i, 3) for i in range(10)]).astype(np.float64) / 255
    assert train.mean == pytest.approx(pixels.mean(axis=(0, 2, 3)), rel=1e-12)
    assert train.variance == pytest.approx(pixels.var(axis=(0, 2, 3)), rel=1e-12)
    assert PixelHistogram(3).moments() == (None, None)


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # WebDataset leaves shards to the garbage collector
def test_plain_webdataset_reads_the_shards(noise_set: Path) -> None:
    import webdataset as wds

    shards = sorted(map(str, (noise_set / "train").glob("*.tar")))
    samples = list(wds.WebDataset(shards, shardshuffle=False))
    gc.collect()
    assert [sample["__key__"] for sample in samples] == [f"train_{i:03d}" for i in range(10)]
    for i, sample in enumerate(samples):
        assert json.loads(sample["json"])["slice"] == i % 3
        assert np.array_equal(decode_png(sample["png"], image_size=NOISE_SIZE, channels=1), make_noise(i))


def test_a_dataset_of_codes(tmp_path: Path) -> None:
    out = tmp_path / "codes"
    maps = [np.random.default_rng(i).integers(0, 300, (3, 5)) for i in range(3)]
    description = {"num_codes": 300, "grid": (3, 5), "vqvae_fingerprint": "f", "class_names": ("a", "b")}
    with ShardSetWriter(out, kind="codes", image_size=(12, 20), channels=1, **description) as writer:
        (writer.folder / "vqvae").mkdir()
        for i, codes in enumerate(maps):
            info = {"subject": "s", "slice": None, "label": None}
            writer.write("test", f"k{i}", encode_codes(codes, 300), info)
    manifest = load_manifest(out)
    assert (manifest.kind, manifest.num_codes, manifest.grid) == ("codes", 300, (3, 5))
    assert (manifest.vqvae_fingerprint, manifest.class_names) == ("f", ("a", "b"))
    assert (manifest.num_slices, manifest.num_labels, manifest.conditions) == (None, None, ())
    assert (manifest.splits["test"].samples, manifest.splits["test"].subjects) == (3, 1)
    assert manifest.splits["test"].mean is None
    assert (out / "vqvae").is_dir()
    reader = open_reader(out, "test")
    for i, codes in enumerate(maps):
        assert np.array_equal(decode_codes(reader.read(i)["npy"], grid=(3, 5), num_codes=300), codes)


def test_a_damaged_or_wrong_payload_is_refused(tmp_path: Path) -> None:
    def write(payload: bytes) -> None:
        with ShardSetWriter(tmp_path / "out", kind="images", image_size=NOISE_SIZE, channels=1) as writer:
            writer.write("train", "a", payload, {})

    for payload in (encode_png(make_noise(0, 3)), encode_png(make_noise(0))[:-30], b"no picture"):
        with pytest.raises(DamagedDataError, match=r"^a: found"):
            write(payload)
    assert list(tmp_path.iterdir()) == []


def test_an_exception_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="train, sample a: found the key of another sample"):
        write_one_twice(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_output_is_refused_or_replaced(noise_set: Path, tmp_path: Path) -> None:
    before = load_manifest(noise_set)
    with pytest.raises(DataError, match="--overwrite"):
        write_noise_set(noise_set, samples=3)
    assert load_manifest(noise_set) == before
    with pytest.raises(DataError, match="the key of another sample"):
        write_one_twice(noise_set, overwrite=True)
    assert load_manifest(noise_set) == before
    write_noise_set(noise_set, samples=3, overwrite=True)
    assert load_manifest(noise_set).splits["train"].samples == 3
    (tmp_path / "empty").mkdir()
    write_noise_set(tmp_path / "empty")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "set"]
    assert not list((noise_set / "train").glob("shard-000001*"))


KILLED_WRITER = """
import os, signal, sys
import numpy as np
from vqdist.data.shards.writer import ShardSetWriter
with ShardSetWriter(sys.argv[1], kind="images", image_size=(6, 8), channels=1, samples_per_shard=2) as writer:
    for i in range(int(sys.argv[2])):
        writer.write_image("train", f"k{i}", np.zeros((1, 6, 8), np.uint8), {})
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_writer_leaves_no_dataset(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED_WRITER, str(tmp_path / "out"), "5"])
    assert done.returncode == -9
    (leftover,) = tmp_path.iterdir()
    assert leftover.name.startswith(".out.tmp-")
    assert find_leftovers(tmp_path / "out") == [leftover]
    with pytest.raises(DataError, match="a temporary folder of a killed command"):
        load_manifest(leftover)
    write_noise_set(tmp_path / "out")
