"""Verified reading: every sample as it was written, and an error that names shard and sample for any damage."""

import json
import os
import pickle
import time
from pathlib import Path

import numpy as np
import pytest
from support.noise_images import NOISE_SIZE, flip_bit, make_noise, open_reader, read_all, read_index

from vqdist.data.shards.codecs import decode_png
from vqdist.data.shards.index import index_path
from vqdist.data.shards.manifest import MANIFEST, Manifest, ShardInfo, SplitInfo, load_manifest
from vqdist.data.shards.reader import ShardReader
from vqdist.foundation.errors import DamagedDataError, DataError


def test_every_sample_is_read_as_it_was_written(noise_set: Path) -> None:
    reader = open_reader(noise_set)
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
        assert np.array_equal(decode_png(sample["png"], image_size=NOISE_SIZE, channels=1), make_noise(i))
    for outside in (10, -1):
        with pytest.raises(IndexError):
            reader.read(outside)


def test_a_missing_split_is_named(noise_set: Path) -> None:
    with pytest.raises(DataError, match="train or test"):
        open_reader(noise_set, "validate")


def test_a_flipped_bit_in_a_payload_names_shard_and_sample(noise_set: Path) -> None:
    shard = noise_set / "train" / "shard-000001.tar"
    offset, size, _ = read_index(shard)["samples"][2]["members"]["png"]
    flip_bit(shard, offset + size // 2)
    with pytest.raises(DamagedDataError, match=r"shard-000001\.tar, sample train_006"):
        read_all(noise_set)


@pytest.mark.parametrize("keep", [512 * 3, 512 * 4 + 7, 600])
def test_a_truncated_shard_names_shard_and_sample(noise_set: Path, keep: int) -> None:
    os.truncate(noise_set / "train" / "shard-000000.tar", keep)
    with pytest.raises(DamagedDataError, match=r"shard-000000\.tar, sample train_000: found \d+ bytes"):
        read_all(noise_set)


def test_header_damage_names_shard_and_sample(noise_set: Path) -> None:
    shard = noise_set / "train" / "shard-000000.tar"
    data = shard.read_bytes()
    for name, member in (("train_000", "train_000.json"), ("train_002", "train_002.png")):
        header = data.index(member.encode())
        for bit in (*range(148 * 8, 148 * 8 + 4), *range(0, 8 * 512, 61)):
            flipped = bytearray(data)
            flipped[header + bit // 8] ^= 1 << bit % 8
            shard.write_bytes(flipped)
            with pytest.raises(DamagedDataError, match=rf"shard-000000\.tar, sample {name}"):
                read_all(noise_set)
        shard.write_bytes(data[:header] + bytes(512) + data[header + 512 :])
        with pytest.raises(DamagedDataError, match=rf"sample {name}: found a tar header"):
            read_all(noise_set)


def test_missing_and_swapped_shards_are_named(noise_set: Path) -> None:
    first, second = (noise_set / "train" / f"shard-00000{i}.tar" for i in (0, 1))
    first_data, second_data = first.read_bytes(), second.read_bytes()
    assert len(first_data) == len(second_data)
    first.write_bytes(second_data), second.write_bytes(first_data)
    with pytest.raises(DamagedDataError, match=r"shard-000000\.tar, sample train_000"):
        read_all(noise_set)
    first_index, second_index = index_path(first).read_bytes(), index_path(second).read_bytes()
    index_path(first).write_bytes(second_index), index_path(second).write_bytes(first_index)
    with pytest.raises(DamagedDataError, match=r"shard-000000\.index\.json"):
        read_all(noise_set)
    index_path(first).write_bytes(first_index)
    first.unlink()
    with pytest.raises(DamagedDataError, match=r"shard-000000\.tar, sample train_000: found No such file"):
        read_all(noise_set)
    index_path(first).unlink()
    with pytest.raises(DamagedDataError, match=r"shard-000000\.index\.json: found No such file"):
        read_all(noise_set)


@pytest.mark.parametrize("info", [{"slice": 3}, {"slice": -1}, {"label": "1"}, {"label": True}])
def test_infos_out_of_the_manifests_range_are_refused(noise_set: Path, info: dict[str, object]) -> None:
    reader = open_reader(noise_set)
    reader._index(0).infos[:] = [{"slice": 2, "label": 1}, info, {}, {"slice": None}]
    assert reader.read(0)["json"] == {"slice": 2, "label": 1}
    with pytest.raises(DamagedDataError, match=r"shard-000000\.tar, sample train_001: found (slice|label)"):
        reader.read(1)
    assert [reader.read(number)["json"] for number in (2, 3)] == [{}, {"slice": None}]


def test_a_reader_survives_pickle_and_fork(noise_set: Path) -> None:
    reader = open_reader(noise_set)
    expected = reader.read(5)
    copy = pickle.loads(pickle.dumps(reader))
    assert copy.read(5) == expected
    child = os.fork()
    if child == 0:
        os._exit(0 if [reader.read(i)["__key__"] for i in (5, 0, 9)] else 1)
    assert [reader.read(i)["__key__"] for i in (5, 0, 9)] == ["train_005", "train_000", "train_009"]
    assert os.waitpid(child, 0)[1] == 0


def test_a_reader_keeps_few_files_and_indexes_open(noise_set: Path) -> None:
    reader = ShardReader(noise_set, load_manifest(noise_set), "train", max_open=1, max_indexed=4)
    for i in (0, 9, 4, 1, 8):
        assert reader.read(i)["__key__"] == f"train_{i:03d}"
        assert len(reader._handles) == 1
        assert sum(len(index.keys) for index in reader._indexes.values()) <= 4


def test_a_dataset_of_ten_million_samples_opens_fast(tmp_path: Path) -> None:
    shards = tuple(ShardInfo(f"train/shard-{i:06d}.tar", 256, 2**22, "a" * 64, "b" * 64) for i in range(39_063))
    split = SplitInfo(shards, 256 * len(shards), 312_504, (0.2,), (0.1,))
    manifest = Manifest(kind="images", image_size=(256, 256), channels=1, splits={"train": split})
    (tmp_path / MANIFEST).write_text(json.dumps(manifest.to_json()))
    start_s = time.process_time()
    reader = open_reader(tmp_path)
    assert reader.locate(9_999_999) == (39062, 127)
    assert time.process_time() - start_s < 5


class EvictingGate:
    """A gate that makes a shard available when it is waited for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.waited_for: list[str] = []

    def wait_for(self, name: str) -> None:
        self.waited_for.append(name)
        for path in (self.folder / name, index_path(self.folder / name)):
            hidden = path.with_name(f"{path.name}.hidden")
            if hidden.exists():
                hidden.rename(path)


def test_a_reader_waits_for_shards_that_are_not_there_yet(noise_set: Path) -> None:
    expected = read_all(noise_set)
    for path in list((noise_set / "train").iterdir()):
        path.rename(path.with_name(f"{path.name}.hidden"))
    gate = EvictingGate(noise_set)
    reader = ShardReader(noise_set, load_manifest(noise_set), "train", gate=gate)
    assert [reader.read(index) for index in range(10)] == expected
    assert set(gate.waited_for) == {f"train/shard-{number:06d}.tar" for number in range(3)}
