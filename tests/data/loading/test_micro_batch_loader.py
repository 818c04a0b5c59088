"""Loading of one micro-batch: values, labels and positions, damaged samples, and the cache."""

from pathlib import Path

import numpy as np
import pytest
import torch

from vqdist.data.augmentation import Augmentation
from vqdist.data.loading.batch import NO_NUMBER, Batch
from vqdist.data.loading.micro_batch_loader import MicroBatchLoader
from vqdist.data.loading.pipeline import SampleDecoder
from vqdist.data.loading.plan import MicroBatchPlan
from vqdist.data.loading.sample_cache import SampleCache
from vqdist.data.shards.manifest import load_manifest
from vqdist.data.shards.reader import ShardReader
from vqdist.foundation.errors import DamagedDataError


def open_dataset(data: Path, **options: object) -> MicroBatchLoader:
    manifest = load_manifest(data)
    return MicroBatchLoader(
        ShardReader(data, manifest, "train"),
        SampleDecoder(manifest),
        shape=manifest.values_shape,
        dtype=manifest.values_dtype,
        global_batch_size=8,
        **options,
    )


def load(dataset: MicroBatchLoader, *samples: int) -> Batch:
    indexes = np.array(samples, np.int64)
    return dataset.load(MicroBatchPlan(3, indexes + 100, indexes, last=True))


def test_a_batch_describes_its_samples(image_set: Path) -> None:
    dataset = open_dataset(image_set)
    batch = load(dataset, 9, 2)
    expected = [dataset.reader.read(9), dataset.reader.read(2)]
    assert (batch.step, batch.last, len(batch), batch.num_samples, batch.skipped) == (3, True, 2, 2, [])
    assert batch.keys == [sample["__key__"] for sample in expected]
    assert np.array_equal(batch.values.numpy(), np.stack([dataset.decode(sample) for sample in expected]))
    assert batch.label.tolist() == [sample["json"]["label"] for sample in expected]
    assert batch.slice.tolist() == [sample["json"]["slice"] for sample in expected]
    assert batch.positions.tolist() == [109 % 8, 102 % 8]
    assert batch.weights.tolist() == [1.0, 1.0]
    assert {tensor.dtype for tensor in (batch.label, batch.slice, batch.positions)} == {torch.int64}


def test_samples_without_label_and_slice_have_no_number(image_set: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = open_dataset(image_set)
    monkeypatch.setattr(ShardReader, "_parse_info", lambda *_: {"subject": "s", "label": None})
    batch = load(dataset, 0)
    assert (batch.label.tolist(), batch.slice.tolist()) == ([NO_NUMBER], [NO_NUMBER])


@pytest.mark.parametrize("cached", [False, True])
def test_only_the_crops_are_loaded(image_set: Path, tmp_path: Path, cached: bool) -> None:
    augmentation = Augmentation("up-down", 16, 8, seed=5)
    cache = SampleCache(tmp_path / "cache", 60, (1, 32, 32), np.uint8) if cached else None
    dataset = open_dataset(image_set, augmentation=augmentation, cache=cache)
    whole = load(open_dataset(image_set), 9, 2, 30)
    changes = augmentation.draw(3, [109 % 8, 102 % 8, 130 % 8], (1, 32, 32))
    expected = [change.apply(image) for change, image in zip(changes, whole.values.numpy(), strict=True)]
    for _ in range(2):  # the second time from the cache
        batch = load(dataset, 9, 2, 30)
        assert np.array_equal(batch.values.numpy(), np.stack(expected))
        assert batch.keys == whole.keys
    if cached:
        assert load(open_dataset(image_set, cache=cache), 9, 2, 30).values.equal(whole.values), (
            "the cache has them whole"
        )


def test_damaged_samples_keep_the_crops_of_the_others(damaged_set: Path) -> None:
    augmentation = Augmentation("left-right", 16, 8, seed=5)
    batch = load(open_dataset(damaged_set, skip_damaged=True, augmentation=augmentation), 8, 0, 9)
    intact = load(open_dataset(damaged_set, augmentation=augmentation), 8, 9)
    assert batch.values.equal(intact.values)
    blank = load(open_dataset(damaged_set, skip_damaged=True, augmentation=augmentation), 0, 1)
    assert blank.values.shape == (1, 1, 16, 16)
    assert not blank.values.any()


def test_damaged_samples_raise_or_are_left_out(damaged_set: Path) -> None:
    with pytest.raises(DamagedDataError, match=r"shard-000000\.tar, sample s00-04: found bytes"):
        load(open_dataset(damaged_set), 8, 0, 9)
    batch = load(open_dataset(damaged_set, skip_damaged=True), 8, 0, 9)
    intact = load(open_dataset(damaged_set), 8, 9)
    assert batch.values.equal(intact.values)
    assert (batch.keys, batch.positions.tolist()) == (intact.keys, intact.positions.tolist())
    assert batch.weights.tolist() == [1.0, 1.0]
    assert len(batch.skipped) == 1
    assert "sample s00-04" in batch.skipped[0]


def test_a_batch_of_damaged_samples_has_one_blank_sample(damaged_set: Path) -> None:
    batch = load(open_dataset(damaged_set, skip_damaged=True), 0, 1)
    assert (len(batch), batch.num_samples, len(batch.skipped), batch.keys) == (1, 0, 2, [])
    assert batch.values.shape == (1, 1, 32, 32)
    assert not batch.values.any()
    assert batch.weights.tolist() == [0.0]
    assert batch.weights.dtype == torch.float32
    assert batch.positions.tolist() == [NO_NUMBER]


def test_cached_samples_are_not_read_again(code_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = SampleCache(tmp_path / "cache", 60, (8, 8), np.int32)
    dataset = open_dataset(code_set, cache=cache)
    first = load(dataset, 3, 4)
    assert not dataset.is_cached()
    load(dataset, *range(60))
    assert dataset.is_cached()
    monkeypatch.delattr(ShardReader, "read")
    again = load(dataset, 3, 4)
    assert again.values.dtype == torch.int64
    assert again.keys == first.keys
    for name in ("values", "label", "slice", "positions", "weights"):
        assert getattr(again, name).equal(getattr(first, name))
