"""Whole runs on data that the ranks of a node share: at a URL, and decoded in memory."""

import shutil
from pathlib import Path

import pytest
from shard_server import ShardServer
from support import digests, read_records, tiny_flags, train


def ledgers(run: Path) -> list[list[dict]]:
    return [read_records(path) for path in sorted(run.glob("ledger/rank-*.jsonl"))]


def run_on(path: str, folder: Path, name: str, *flags: object, ranks: int, task: str = "vqvae") -> Path:
    words = ("--data.path", path, "--run.dir", folder, "--run.name", name, "--data.ledger", "true")
    train(*words, *tiny_flags(task), "--data.cache_dir", folder / "cache", *flags, ranks=ranks)
    return folder / name


@pytest.mark.ranks
@pytest.mark.parametrize("task", ["vqvae", "pixelcnn"])
def test_a_url_gives_the_run_of_the_folder(task: str, image_set: Path, code_set: Path, tmp_path: Path) -> None:
    data = image_set if task == "vqvae" else code_set
    more = ("--data.window_shards", 2, "--data.num_workers", 1)
    local = run_on(str(data), tmp_path, "local", *more, ranks=2, task=task)
    with ShardServer(data) as server:
        server.faults["train/shard-000002.tar"].extend(["drop", "503"])
        server.faults["validate/shard-000000.index.json"].extend(["short"])
        remote = run_on(server.url, tmp_path, "remote", *more, ranks=2, task=task)
        assert server.requests["train/shard-000001.tar"] == 1
    assert ledgers(remote) == ledgers(local)
    assert len(ledgers(local)) == 2
    weights = "model.safetensors"
    assert digests(remote / "model")[weights] == digests(local / "model")[weights]
    assert not list((tmp_path / "cache").glob("remote/*/starts/*"))


@pytest.mark.ranks
def test_decoded_samples_in_memory_give_the_same_run_and_are_removed(image_set: Path, tmp_path: Path) -> None:
    plain = run_on(str(image_set), tmp_path, "plain", ranks=2)
    before = set(Path("/dev/shm").glob("vqdist-*"))
    cached = run_on(str(image_set), tmp_path, "cached", "--data.cache", "memory", "--data.num_workers", 1, ranks=2)
    assert ledgers(cached) == ledgers(plain)
    assert digests(cached / "model")["model.safetensors"] == digests(plain / "model")["model.safetensors"]
    assert set(Path("/dev/shm").glob("vqdist-*")) == before


@pytest.mark.ranks
def test_third_party_shards_are_indexed_once_and_trained_on(image_set: Path, tmp_path: Path) -> None:
    tars = tmp_path / "tars"
    for split in ("train", "validate"):
        (tars / split).mkdir(parents=True)
        for shard in image_set.glob(f"{split}/*.tar"):
            shutil.copy(shard, tars / split)
    run = run_on(str(tars), tmp_path, "third-party", ranks=2)
    expected = run_on(str(image_set), tmp_path, "own", ranks=2)
    assert ledgers(run) == ledgers(expected)
    assert len(list((tmp_path / "cache").glob("*/dataset.json"))) == 1


def test_a_small_cache_for_remote_shards_is_reported_before_the_run_starts(image_set: Path, tmp_path: Path) -> None:
    words = ["--run.dir", tmp_path, "--data.cache_dir", tmp_path / "cache", "--data.cache_gib", "0.0001"]
    with ShardServer(image_set) as server:
        ended = train("--data.path", server.url, *tiny_flags(), *words, check=False)
    assert ended.code == 2
    assert "data.cache_gib: found 0.0001" in ended.logs[0]
    assert not (tmp_path / "tiny").exists()
