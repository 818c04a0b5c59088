"""The data pipeline of a rank: its batches contain the samples of the order, as the reader returns them."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from vqdist.config.schema import DataSection
from vqdist.data.loading.batch import Batch
from vqdist.data.loading.pipeline import DataPipeline, SampleDecoder
from vqdist.data.loading.sample_cache import SampleCache
from vqdist.data.loading.workers import BATCHES_AHEAD
from vqdist.data.previous_noise import PreviousNoise, find_similar_codes
from vqdist.data.shards.codecs import decode_codes, decode_png
from vqdist.data.shards.manifest import load_manifest
from vqdist.data.shards.reader import ShardReader
from vqdist.foundation.errors import DamagedDataError, DataError


def open_pipeline(data: Path, *, rank: int = 0, world_size: int = 1, **settings: object) -> DataPipeline:
    section = DataSection(path=str(data), **({"global_batch_size": 8, "num_workers": 0} | settings))
    return DataPipeline(str(data), load_manifest(data), section, seed=1, rank=rank, world_size=world_size, timeout_s=60)


def take(batches: Iterator[list[Batch]], count: int) -> list[Batch]:
    return [batch for step in islice(batches, count) for batch in step]


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("kind", ["images", "codes"])
def test_batches_contain_the_samples_of_the_reader(
    kind: str, num_workers: int, image_set: Path, code_set: Path
) -> None:
    data = image_set if kind == "images" else code_set
    pipeline = open_pipeline(data, num_workers=num_workers, micro_batch_size=3)
    reader = ShardReader(data, load_manifest(data), "train")
    # More batches than slots, all kept: reusing a slot must not change a batch.
    batches = take(pipeline.train_steps(5), 3 + num_workers * BATCHES_AHEAD)
    assert [len(batch) for batch in batches[:4]] == [3, 3, 2, 3]
    positions = iter(range(5 * 8, 10**6))
    for batch in batches:
        assert batch.values.dtype == (torch.uint8 if kind == "images" else torch.int64)
        for i, key in enumerate(batch.keys):
            position = next(positions)
            sample = reader.read(int(pipeline.order.samples(np.array([position]))[0]))
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


def test_steps_group_their_micro_batches(image_set: Path) -> None:
    for number, step in enumerate(islice(open_pipeline(image_set, micro_batch_size=3).train_steps(4), 5)):
        assert [batch.step for batch in step] == [number + 5] * 3
        assert [batch.last for batch in step] == [False, False, True]


def test_the_ranks_share_a_split(image_set: Path) -> None:
    reader = ShardReader(image_set, load_manifest(image_set), "validate")
    pipelines = [open_pipeline(image_set, rank=rank, world_size=2, num_workers=1) for rank in range(2)]
    keys = [key for pipeline in pipelines for batch in pipeline.split("validate") for key in batch.keys]
    assert sorted(keys) == sorted(reader.key(i) for i in range(len(reader)))
    assert [pipelines[0].has_split(name) for name in ("validate", "nosuch")] == [True, False]


def test_first_samples_and_examples_are_the_same_on_every_rank(image_set: Path) -> None:
    pipelines = [open_pipeline(image_set, rank=rank, world_size=3) for rank in (0, 2)]
    first = [[key for batch in pipeline.first_samples(20, 6) for key in batch.keys] for pipeline in pipelines]
    order = pipelines[0].order.samples(np.arange(20))
    train = ShardReader(image_set, load_manifest(image_set), "train")
    assert first[0] == first[1] == [train.key(int(index)) for index in order]
    validate = ShardReader(image_set, load_manifest(image_set), "validate")
    for pipeline in pipelines:
        assert pipeline.examples("validate", 3).keys == [validate.key(index) for index in (0, 4, 8)]
        assert len(pipeline.examples("validate", 99)) == 9


@pytest.mark.parametrize("num_workers", [0, 1])
def test_damage_is_skipped_and_counted(damaged_set: Path, num_workers: int) -> None:
    settings = {"on_error": "skip", "micro_batch_size": 1, "global_batch_size": 6, "num_workers": num_workers}
    batches = take(open_pipeline(damaged_set, **settings).train_steps(0), 10)
    assert sum(batch.num_samples for batch in batches) == 60 - 7
    assert sum(len(batch.skipped) for batch in batches) == 7
    assert [batch.weights.tolist() for batch in batches] == [[float(batch.num_samples)] for batch in batches]


def test_the_decoder_names_a_damaged_sample(image_set: Path, code_set: Path) -> None:
    for data in (image_set, code_set):
        manifest = load_manifest(data)
        sample = ShardReader(data, manifest, "train").read(0)
        assert SampleDecoder(manifest)(sample).shape == manifest.values_shape
        with pytest.raises(DamagedDataError, match=r"train/shard-000000\.tar, sample s00-04"):
            SampleDecoder(manifest)(sample | {manifest.extension: b"x"})


def open_pairs(data: Path, **options: object) -> DataPipeline:
    section = DataSection(path=str(data), global_batch_size=6, num_workers=int(options.pop("num_workers", 0)))
    ranks = {"rank": options.pop("rank", 0), "world_size": options.pop("world_size", 1)}
    manifest = load_manifest(data)
    return DataPipeline(str(data), manifest, section, seed=1, timeout_s=60, reads_previous=True, **ranks, **options)


def read_maps(data: Path, split: str) -> dict[str, np.ndarray]:
    """Return the codes of each sample, by key."""
    reader = ShardReader(data, load_manifest(data), split)
    samples = [reader.read(i) for i in range(len(reader))]
    return {sample["__key__"]: decode_codes(sample["npy"], grid=(8, 8), num_codes=16) for sample in samples}


@pytest.mark.parametrize("num_workers", [0, 2])
def test_maps_come_with_the_previous_slice(volume_codes: Path, tmp_path: Path, num_workers: int) -> None:
    pairs = open_pairs(volume_codes, num_workers=num_workers)
    alone = open_pipeline(volume_codes, global_batch_size=6)
    for name, batches in (("train", take(pairs.train_steps(2), 8)), ("test", list(pairs.split("test")))):
        maps = read_maps(volume_codes, name)
        for batch in batches:
            previous = batch.conditions.previous
            assert previous is not None
            assert previous.dtype == torch.int64
            for key, values, before in zip(batch.keys, batch.values.numpy(), previous.numpy(), strict=True):
                subject, _, number = key.partition("_slice_")
                assert np.array_equal(values, maps[key])
                assert np.array_equal(before, maps.get(f"{subject}_slice_{int(number) - 1}", np.full((8, 8), -1)))
    orders = [[batch.keys for batch in take(pipeline.train_steps(2), 8)] for pipeline in (pairs, alone)]
    assert orders[0] == orders[1]  # the order of the samples does not depend on it


def test_pairs_come_from_the_cache(volume_codes: Path, tmp_path: Path) -> None:
    caches = {"train": SampleCache(tmp_path / "cache", 20, (8, 8), np.int32)}
    expected = take(open_pairs(volume_codes).train_steps(0), 8)
    for _ in range(2):  # the second time from the cache
        found = take(open_pairs(volume_codes, caches=caches).train_steps(0), 8)
        for batch, other in zip(found, expected, strict=True):
            assert batch.values.equal(other.values)
            assert torch.equal(batch.conditions.previous, other.conditions.previous)


def test_the_noise_of_previous_maps_depends_on_the_position_only(volume_codes: Path) -> None:
    noise = PreviousNoise(find_similar_codes(np.arange(16, dtype=np.float32)[:, None]), 0.3, 0.5, seed=3)
    alone = {
        (batch.step, int(position)): previous
        for batch in take(open_pairs(volume_codes, previous_noise=noise).train_steps(0), 6)
        for position, previous in zip(batch.positions, batch.conditions.previous, strict=True)
    }
    count = 0
    for rank in range(4):
        pipeline = open_pairs(volume_codes, previous_noise=noise, rank=rank, world_size=4, num_workers=1)
        for batch in take(pipeline.train_steps(2), 4):  # resumed after step 2
            for position, previous in zip(batch.positions, batch.conditions.previous, strict=True):
                assert torch.equal(previous, alone[batch.step, int(position)])
                count += 1
    assert count == 4 * 6
    clean = take(open_pairs(volume_codes).train_steps(0), 6)
    assert any(
        not torch.equal(previous, alone[batch.step, int(position)])
        for batch in clean
        for position, previous in zip(batch.positions, batch.conditions.previous, strict=True)
    )
    validate = [list(open_pairs(volume_codes, previous_noise=given).split("validate")) for given in (noise, None)]
    assert torch.equal(*(batches[0].conditions.previous for batches in validate))


def test_slices_without_neighbours_are_refused(code_set: Path) -> None:
    with pytest.raises(DataError, match="train: found no slice with a previous one: "):
        next(open_pairs(code_set).train_steps(0))
