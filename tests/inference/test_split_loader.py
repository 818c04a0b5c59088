"""The batches of a split: their content does not depend on ranks or loader workers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from shard_server import ShardServer

from vqdist.data.loading.batch import Batch
from vqdist.data.loading.plan import FixedBatchPlan
from vqdist.data.open_dataset import open_dataset
from vqdist.distributed.process_group import Ranks
from vqdist.foundation.errors import DataError
from vqdist.inference import split_loader
from vqdist.inference.split_loader import SplitLoader, group_in_batches


def load_on_ranks(split: SplitLoader, world_size: int, *, within_shards: bool = False) -> list[Batch]:
    shares = [
        list(split.load_all(Ranks(rank, world_size, 0, torch.device("cpu")), within_shards=within_shards))
        for rank in range(world_size)
    ]
    return [shares[number % world_size][number // world_size] for number in range(sum(map(len, shares)))]


def test_numbers_are_grouped_in_batches() -> None:
    batches = [batch.tolist() for batch in group_in_batches([5, 1, 4], 2)]
    assert batches == [[0, 1], [2, 3], [4], [5], [6, 7], [8, 9]]
    assert [batch.tolist() for batch in group_in_batches([5], 3)] == [[0, 1, 2], [3, 4]]


def test_a_plan_gives_batch_b_to_rank_b_modulo_the_number_of_ranks() -> None:
    batches = group_in_batches([9], 2)
    plans = [FixedBatchPlan(batches, rank=rank, world_size=3) for rank in range(3)]
    assert [[request.samples.tolist() for request in plan] for plan in plans] == [
        [[0, 1], [6, 7]], [[2, 3], [8]], [[4, 5]],
    ]  # fmt: skip
    assert [plan.max_samples for plan in plans] == [2, 2, 2]


@pytest.mark.parametrize("within_shards", [False, True])
def test_ranks_and_workers_change_no_batch(
    image_set: Path, monkeypatch: pytest.MonkeyPatch, within_shards: bool
) -> None:
    split = SplitLoader(open_dataset(image_set), "train", batch_size=4)
    expected = list(split.load_all(within_shards=within_shards))
    sizes = [4, 3] * 8 + [4] if within_shards else [4] * 15
    assert [len(batch) for batch in expected] == sizes
    numbers = [number for batch in expected for number in batch.positions.tolist()]
    assert numbers == list(range(60))
    assert [key for batch in expected for key in batch.keys] == [split.key(number) for number in numbers]
    assert [batch.slice[0].item() for batch in expected] == [
        split.read_info(batch.positions[0].item())["slice"] for batch in expected
    ]
    monkeypatch.setattr(split_loader, "MIN_SAMPLES_FOR_WORKERS", 1)
    for world_size in (1, 3):
        found = load_on_ranks(split, world_size, within_shards=within_shards)
        for batch, other in zip(expected, found, strict=True):
            assert batch.keys == other.keys
            for name in ("values", "label", "slice", "positions"):
                assert torch.equal(getattr(batch, name), getattr(other, name))


def test_samples_are_loaded_by_number(code_set: Path) -> None:
    split = SplitLoader(open_dataset(code_set), "test", batch_size=4)
    batch = split.load(np.array([7, 0, 7]))
    assert batch.values.shape == (3, 8, 8)
    assert batch.keys == [split.key(7), split.key(0), split.key(7)]
    assert torch.equal(batch.values[0], batch.values[2])


def test_a_split_must_have_samples(image_set: Path) -> None:
    with pytest.raises(DataError, match="no split 'tset'"):
        SplitLoader(open_dataset(image_set), "tset", batch_size=4)
    with pytest.raises(DataError, match="no such folder"):
        open_dataset(image_set / "nowhere")


def test_a_dataset_at_a_url_gives_the_same_samples(
    image_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command passes a URL as a Path, which folds its slashes. Shards are downloaded when they are read, once."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    expected = SplitLoader(open_dataset(image_set), "validate", batch_size=4)
    with ShardServer(image_set) as server:
        for _ in range(2):
            found = SplitLoader(open_dataset(Path(server.url)), "validate", batch_size=4)
            for batch, other in zip(expected.load_all(), found.load_all(), strict=True):
                assert batch.keys == other.keys
                assert torch.equal(batch.values, other.values)
        shards = {name: count for name, count in server.requests.items() if name.endswith(".tar")}
    assert shards == {shard.name: 1 for shard in expected.manifest.splits["validate"].shards}


def test_a_shard_that_is_damaged_at_its_url_is_an_error(
    image_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with ShardServer(image_set) as server:
        split = SplitLoader(open_dataset(server.url), "validate", batch_size=4)
        server.always[split.manifest.splits["validate"].shards[0].name] = "flip"
        with pytest.raises(DataError, match=r"shard-000000\.tar"):
            next(iter(split.load_all()))
