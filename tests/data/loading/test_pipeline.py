"""Batches from shards, loaded in the process and by workers, against the reader."""

import shutil
from collections.abc import Iterator
from itertools import islice
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest
import torch

from vqdist.config.schema import DataSection
from vqdist.data.loading.batch import NO_NUMBER, Batch
from vqdist.data.loading.pipeline import DataPipeline
from vqdist.data.loading.workers import BATCHES_AHEAD, Slots
from vqdist.data.shards.codecs import decode_codes, decode_png
from vqdist.data.shards.manifest import load_manifest
from vqdist.data.shards.reader import ShardReader
from vqdist.foundation.errors import DamagedDataError, StalledError


def open_feed(data: Path, *, rank: int = 0, world_size: int = 1, **settings: object) -> DataPipeline:
    section = DataSection(path=str(data), **({"global_batch_size": 8, "num_workers": 0} | settings))
    return DataPipeline(str(data), load_manifest(data), section, seed=1, rank=rank, world_size=world_size, timeout_s=60)


def take(batches: Iterator[list[Batch]], count: int) -> list[Batch]:
    return [batch for step in islice(batches, count) for batch in step]


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("kind", ["images", "codes"])
def test_batches_hold_what_the_reader_reads(kind: str, num_workers: int, image_set: Path, code_set: Path) -> None:
    data = image_set if kind == "images" else code_set
    feed = open_feed(data, num_workers=num_workers, micro_batch_size=3)
    reader = ShardReader(data, load_manifest(data), "train")
    # More batches than there are slots, all kept: a slot that is written again must not change a batch.
    batches = take(feed.train_steps(5), 3 + num_workers * BATCHES_AHEAD)
    assert [len(batch) for batch in batches[:4]] == [3, 3, 2, 3]
    positions = iter(range(5 * 8, 10**6))
    for batch in batches:
        assert batch.values.dtype == (torch.uint8 if kind == "images" else torch.int64)
        for i, key in enumerate(batch.keys):
            position = next(positions)
            sample = reader.read(int(feed.order.samples(np.array([position]))[0]))
            if kind == "images":
                expected = decode_png(sample["png"], image_size=(32, 32), channels=1)
            else:
                expected = decode_codes(sample["npy"], grid=(8, 8), num_codes=16)
            assert key == sample["__key__"]
            assert np.array_equal(batch.values[i].numpy(), expected)
            assert batch.label[i] == sample["json"]["label"]
            assert batch.slice[i] == sample["json"]["slice"]
            assert batch.positions[i] == position % 8
        assert batch.weights.tolist() == [1.0] * batch.num_samples


def test_a_split_is_dealt_out_once(image_set: Path) -> None:
    reader = ShardReader(image_set, load_manifest(image_set), "validate")
    feeds = [open_feed(image_set, rank=rank, world_size=2, num_workers=1) for rank in range(2)]
    keys = [key for feed in feeds for batch in feed.split("validate") for key in batch.keys]
    assert sorted(keys) == sorted(reader.key(i) for i in range(len(reader)))


@pytest.fixture
def damaged(image_set: Path, tmp_path: Path) -> Path:
    """A copy in which every payload of one shard has a bit flipped."""
    folder = tmp_path / "damaged"
    shutil.copytree(image_set, folder)
    shard = folder / "train/shard-000000.tar"
    data = bytearray(shard.read_bytes())
    reader = ShardReader(folder, load_manifest(folder), "train")
    for place in range(7):
        data[reader._index(0).spans[6 * place] + 50] ^= 1
    shard.write_bytes(data)
    return folder


@pytest.mark.parametrize("num_workers", [0, 1])
def test_damage_is_named_by_shard_and_sample(damaged: Path, num_workers: int) -> None:
    feed = open_feed(damaged, num_workers=num_workers)
    others = active_children()
    with pytest.raises(DamagedDataError, match=r"shard-000000\.tar, sample s") as caught:
        take(feed.train_steps(0), 8)
    assert [child for child in active_children() if child not in others] == []  # though the error keeps its frames
    assert caught.value.problems[0].expected == "the bytes that were written"


@pytest.mark.parametrize("num_workers", [0, 1])
def test_damage_is_skipped_and_counted_where_asked(damaged: Path, num_workers: int) -> None:
    feed = open_feed(damaged, num_workers=num_workers, on_error="skip", micro_batch_size=1, global_batch_size=6)
    batches = take(feed.train_steps(0), 10)
    assert sum(batch.num_samples for batch in batches) == 60 - 7
    assert sum(len(batch.skipped) for batch in batches) == 7
    assert all(batch.weights.tolist() == [1.0] * batch.num_samples for batch in batches if batch.num_samples)
    blank = next(batch for batch in batches if batch.num_samples == 0)
    assert len(blank) == 1
    assert blank.weights.tolist() == [0.0]
    assert blank.weights.dtype == torch.float32
    assert blank.values.shape == (1, 1, 32, 32)
    assert not blank.values.any()
    assert blank.positions.tolist() == [NO_NUMBER]


def test_slots_are_used_in_turn_and_hold_the_largest_batch() -> None:
    class Requests:
        most_samples = 3

        def __iter__(self) -> Iterator[int]:
            return iter(range(7))

    assert list(Slots(iter(range(7)), 3, 3)) == [(0, 0), (3, 1), (6, 2), (0, 3), (3, 4), (6, 5), (0, 6)]  # type: ignore[arg-type]


class HangingReader(ShardReader):
    def read(self, index: int) -> dict:
        import time

        time.sleep(600)
        return {}


def test_a_worker_that_hangs_is_an_error_in_bounded_time(image_set: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vqdist.data.loading.pipeline.ShardReader", HangingReader)
    feed = open_feed(image_set, num_workers=1)
    feed._timeout_s = 1
    with pytest.raises(StalledError, match=r"data\.num_workers"):
        next(feed.train_steps(0))
