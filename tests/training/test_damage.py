"""Damaged data end the run with an error that names shard and sample, or are skipped, counted and reported."""

import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support import Ended, describe, digests, read_metrics, read_records, tiny_flags, train
from support.checkpoints import Canary

from vqdist.data.shards.manifest import load_manifest, write_manifest
from vqdist.data.shards.writer import ShardFile
from vqdist.runs.checkpoint import list_checkpoints

pytestmark = pytest.mark.ranks

SHARD = "train/shard-000001.tar"
KEYS = ("s02-12", "s02-20", "s03-04", "s03-12", "s03-20", "s04-04", "s04-12")


def flip(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def blank(data: bytes, place: int) -> bytes:
    return data[:place] + bytes(1024) + data[place + 1024 :]


# name -> (damage to the contents of a shard, number of samples lost)
DAMAGES: dict[str, tuple[Callable[[bytes], bytes], int]] = {
    "cut at a sample boundary": (lambda data: data[: data.index(b"s03-12.json")], 7),
    "cut in a header": (lambda data: data[: data.index(b"s03-12.json") + 100], 7),
    "cut between members": (lambda data: data[: data.index(b"s03-12.png")], 7),
    "a header bit": (lambda data: flip(data, data.index(b"s03-12.png") + 130), 1),
    "two zeroed blocks": (lambda data: blank(data, data.index(b"s03-12.json")), 1),
    "a payload bit": (lambda data: flip(data, data.index(b"s03-12.png") + 512 + 60), 1),
    "a part twice": (lambda data: data + data[:2048], 7),
}


def copy_dataset(source: Path, out: Path) -> Path:
    shutil.rmtree(out, ignore_errors=True)
    return Path(shutil.copytree(source, out))


def train_on(data: Path, tmp_path: Path, name: str, *flags: object, ranks: int = 1) -> Ended:
    """Train one epoch of 60 samples: 10 steps of 6."""
    epoch = ("--data.global_batch_size", 6, "--train.max_steps", 10, "--train.log_every", 5, "--data.ledger", "true")
    place = ("--data.path", data, "--run.dir", tmp_path, "--run.name", name)
    return train(*tiny_flags(), *epoch, *place, *flags, ranks=ranks, check=False)


@pytest.mark.parametrize("kind", DAMAGES)
def test_damage_ends_the_run_and_names_shard_and_sample(kind: str, image_set: Path, tmp_path: Path) -> None:
    data = copy_dataset(image_set, tmp_path / "data")
    (data / SHARD).write_bytes(DAMAGES[kind][0]((image_set / SHARD).read_bytes()))
    ended = train_on(data, tmp_path, "run", "--data.num_workers", len(kind) % 2)
    assert ended.code == 2, ended.describe()
    keys = KEYS if DAMAGES[kind][1] == 7 else ("s03-12",)
    assert any(f"{SHARD}, sample {key}: found" in ended.logs[0] for key in keys)
    assert "Traceback" not in ended.logs[0]


def test_missing_swapped_and_changed_shards_are_named(image_set: Path, tmp_path: Path) -> None:
    first, second = image_set / SHARD, image_set / "train/shard-000002.tar"
    data = copy_dataset(image_set, tmp_path / "data")
    (data / SHARD).unlink()
    ended = train_on(data, tmp_path, "missing")
    assert ended.code == 2
    assert f"{SHARD}, sample" in ended.logs[0]
    assert "No such file" in ended.logs[0]
    data = copy_dataset(image_set, tmp_path / "data")
    shutil.copy(first, data / "train/shard-000002.tar")
    shutil.copy(second, data / SHARD)
    ended = train_on(data, tmp_path, "swapped")
    assert ended.code == 2
    assert "train/shard-00000" in ended.logs[0]
    data = copy_dataset(image_set, tmp_path / "data")
    for suffix in (".tar", ".index.json"):
        shutil.copy(image_set / f"train/shard-000003{suffix}", data / f"train/shard-000001{suffix}")
    ended = train_on(data, tmp_path, "changed")
    assert ended.code == 2
    assert "train/shard-000001.index.json: found another index; expected the one that the manifest" in ended.logs[0]


def check_skipped(run: Path, ended: Ended, keys: set[str]) -> None:
    """Check that exactly these samples were skipped in an epoch, counted and reported."""
    assert ended.code == 0, ended.describe()
    logs = "".join(ended.logs)
    assert all(logs.count(f"sample {key}: found") == 1 for key in keys)
    lines = [line for line in read_metrics(run) if line["split"] == "train"]
    assert lines[-1]["skipped_samples"] == len(keys)
    trained = [key for path in (run / "ledger").iterdir() for line in read_records(path) for key in line["keys"]]
    assert len(trained) == len(set(trained)) == 60 - len(keys)
    assert not keys & set(trained)


@pytest.mark.parametrize(
    "kind", ["cut between members", "a payload bit", pytest.param("two zeroed blocks", marks=pytest.mark.long)]
)
def test_damage_is_skipped_and_counted_on_all_ranks(kind: str, image_set: Path, tmp_path: Path) -> None:
    """With micro-batches of one sample, a damaged sample is a micro-batch without any sample."""
    data = copy_dataset(image_set, tmp_path / "data")
    (data / SHARD).write_bytes(DAMAGES[kind][0]((image_set / SHARD).read_bytes()))
    keys = set(KEYS) if DAMAGES[kind][1] == 7 else {"s03-12"}
    flags = ("--data.on_error", "skip", "--model.restart_every", 2)
    check_skipped(tmp_path / "one", train_on(data, tmp_path, "one", *flags), keys)
    more = ("--data.micro_batch_size", 1, "--data.num_workers", 1)
    check_skipped(tmp_path / "two", train_on(data, tmp_path, "two", *flags, *more, ranks=2), keys)
    for line, like in zip(read_metrics(tmp_path / "one"), read_metrics(tmp_path / "two"), strict=True):
        assert line.pop("split") == like.pop("split")
        assert line == pytest.approx(like, rel=1e-4, abs=1e-6)


def test_a_rank_whose_samples_are_all_damaged_stays_in_step(image_set: Path, tmp_path: Path) -> None:
    data = copy_dataset(image_set, tmp_path / "data")
    (data / SHARD).write_bytes(DAMAGES["cut in a header"][0]((image_set / SHARD).read_bytes()))
    flags = ("--data.on_error", "skip", "--data.global_batch_size", 3, "--train.max_steps", 20)
    check_skipped(tmp_path / "one", train_on(data, tmp_path, "one", *flags), set(KEYS))
    check_skipped(tmp_path / "three", train_on(data, tmp_path, "three", *flags, ranks=3), set(KEYS))
    one, three = (read_metrics(tmp_path / name)[-1] for name in ("one", "three"))
    assert three["loss"] == pytest.approx(one["loss"], rel=1e-4)


def test_damage_in_the_validate_split_is_counted(image_set: Path, tmp_path: Path) -> None:
    data = copy_dataset(image_set, tmp_path / "data")
    shard = data / "validate/shard-000000.tar"
    shard.write_bytes(flip(shard.read_bytes(), shard.read_bytes().index(b".png") + 600))
    ended = train_on(data, tmp_path, "raises", ranks=2)
    assert 2 in ended.codes
    assert "validate/shard-000000.tar, sample s20-04: found bytes" in ended.describe()
    ended = train_on(data, tmp_path, "skips", "--data.on_error", "skip", ranks=2)
    assert ended.code == 0, ended.describe()
    assert read_metrics(tmp_path / "skips")[-1]["skipped_samples"] == 1
    assert "validate/shard-000000.tar, sample s20-04: found bytes" in ended.describe()


def test_changed_data_are_refused_before_anything_is_written(image_set: Path, tmp_path: Path) -> None:
    assert train_on(image_set, tmp_path, "run", "--train.stop_at_step", 5).code == 75
    data = copy_dataset(image_set, tmp_path / "data")
    manifest = load_manifest(data)
    split = manifest.splits["train"]
    fewer = replace(split, shards=split.shards[:-1], samples=split.samples - split.shards[-1].samples)
    write_manifest(data, replace(manifest, splits=manifest.splits | {"train": fewer}))
    before = digests(tmp_path / "run")
    ended = train_on(data, tmp_path, "run")
    assert ended.code == 2
    assert f"error: data.path: {tmp_path / 'run'} was trained on {image_set}; you gave {data}: choose" in ended.logs[0]
    assert "--data.allow_changed true" in ended.logs[0]
    assert digests(tmp_path / "run") == before
    assert train_on(data, tmp_path, "run", "--data.allow_changed", "true").code == 0
    # From now on the dataset that it was last trained on is the expected one.
    assert train_on(data, tmp_path, "run", "--train.max_steps", 12).code == 0
    assert train_on(image_set, tmp_path, "run", "--train.max_steps", 14).code == 2


def write_malicious_dataset(out: Path, payload: bytes, info: dict[str, Any]) -> Path:
    """Write a dataset whose checksums and manifest are right and whose payload is not of the kind that they name."""
    file = ShardFile(out, "train/shard-000000.tar")
    for number in range(12):
        file.add(f"k{number}", payload, "png", info)
    shard = file.close()
    split = {"shards": [vars(shard)], "samples": 12, "subjects": 1, "mean": [0.2], "variance": [0.1]}
    facts = {"format_version": 1, "kind": "images", "image_size": [32, 32], "channels": 1, "source": {}}
    (out / "dataset.json").write_text(json.dumps(facts | {"splits": {"train": split}, "class_names": []}))
    return out


def test_nothing_that_a_run_reads_is_executed(image_set: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    payload = pickle.dumps(Canary(canary))
    malicious = write_malicious_dataset(tmp_path / "malicious", payload, describe(0, 0))
    (tmp_path / "tensors").mkdir()
    torch.save(Canary(canary), tmp_path / "tensors" / "model.safetensors")
    torch.save(Canary(canary), tmp_path / "tensors" / "COMMIT.json")
    paths = [malicious, f"pipe:touch {canary}", f"pipe:touch {canary} |", f"file://{canary}::pipe:touch {canary}"]
    for number, path in enumerate(paths):
        ended = train_on(path, tmp_path, f"data-{number}", "--data.cache_dir", tmp_path / "cache")
        assert ended.code == 2, ended.describe()
        assert "Traceback" not in ended.logs[0]
    ended = train_on(image_set, tmp_path, "weights", "--checkpoint.resume", tmp_path / "tensors")
    assert ended.code == 2, ended.describe()
    run = tmp_path / "run"
    assert train_on(image_set, tmp_path, "run", "--train.stop_at_step", 5).code == 75
    for file in list_checkpoints(run / "checkpoints")[-1].iterdir():
        file.write_bytes(payload)
    for name in ("status.json", "owner.json"):
        (run / name).write_bytes(payload)
    assert train_on(image_set, tmp_path, "run", "--train.stop_at_step", 6).code == 75
    (run / "config.yaml").write_text(f"run: !!python/object/apply:os.system ['touch {canary}']\n")
    assert train_on(image_set, tmp_path, "run").code == 2
    assert not canary.exists()
