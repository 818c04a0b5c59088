"""The prefetch process: its plan, eviction, messages, and its end."""

import errno
import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from shard_server import ShardServer, wait_for

from vqdist.data.order import Order
from vqdist.data.remote import prefetch_process
from vqdist.data.remote.download import RetryPolicy
from vqdist.data.remote.prefetch_process import (
    PrefetchPlan,
    PrefetchScheduler,
    ShardStore,
    lock_attempt,
    read_messages,
)
from vqdist.data.remote.remote_dataset import CacheBudget, PrefetchJob, fetch_head, is_released
from vqdist.data.shards.index import index_path
from vqdist.data.shards.manifest import load_manifest


def largest(data: Path) -> int:
    return max(shard.bytes for split in load_manifest(data).splits.values() for shard in split.shards)


def test_a_job_survives_its_way_through_json() -> None:
    job = PrefetchJob("http://x", "a", "b", CacheBudget(5, 2), "full", 2, 1, RetryPolicy(3, 0.1, 1.0))
    assert PrefetchJob.from_json(asdict(job)) == job


def test_the_oldest_shards_that_no_living_run_holds_are_evicted(image_set: Path, tmp_path: Path) -> None:
    folder = tmp_path / "remote" / "name"
    shutil.copytree(image_set, folder)
    shards = sorted(folder.glob("train/*.tar"))
    for age, shard in enumerate(reversed(shards)):
        os.utime(shard, (10**9 - age, 10**9 - age))
    total = sum(path.stat().st_size for path in folder.glob("*/*.tar"))
    for name in ("ours", "killed"):
        (folder / "starts" / name).mkdir(parents=True)
    (folder / "starts/killed/alive").touch()
    (folder / "starts/killed/held").write_text('["train/shard-000000.tar"]')
    store = ShardStore(folder / "starts/ours", total)
    store.hold(["train/shard-000001.tar"])
    assert store.free_space(2 * shards[0].stat().st_size)
    remaining = sorted(path.name for path in folder.glob("train/*.tar"))
    assert remaining == [shard.name for shard in shards if shard.name not in ("shard-000000.tar", "shard-000002.tar")]
    assert not (folder / "train/shard-000000.index.json").exists()
    assert not (folder / "starts/killed").exists()
    assert not store.free_space(total)


def test_the_plan_starts_with_the_current_window_and_stays_in_its_budget(image_set: Path) -> None:
    manifest = load_manifest(image_set)
    sizes = {shard.name: shard.bytes for shard in manifest.splits["train"].shards}
    budget = CacheBudget(5 * largest(image_set), largest(image_set))
    job = PrefetchJob("http://x", "", "", budget, "windowed", 2, 1)
    plan = PrefetchPlan(manifest, job)
    sizes_in_samples = np.array([shard.samples for shard in manifest.splits["train"].shards])
    order = Order(sizes_in_samples, kind="windowed", window_shards=2, seed=1)
    for position in (0, 13, 14, 59, 60, 1000):
        names, end = plan.list_shards(position)
        window, window_end = order.shards_of_window(position)
        assert names[: len(window)] == [manifest.splits["train"].shards[number].name for number in window]
        assert end == window_end
        assert sum(sizes[name] for name in names) <= 4 * largest(image_set)
    everything, _ = PrefetchPlan(manifest, replace(job, budget=CacheBudget(2**30, 0))).list_shards(0)
    assert sorted(everything) == sorted(sizes)


def test_the_process_ends_with_its_parent(image_set: Path, tmp_path: Path) -> None:
    with ShardServer(image_set) as server:
        folder = fetch_head(server.url, tmp_path)
        attempt_dir = folder / "starts" / "x"
        job = PrefetchJob(server.url, str(folder), str(attempt_dir), CacheBudget(2**30, 0), "windowed", 2, 1)
        imports = "import time; from vqdist.data.remote.remote_dataset import *"
        code = f"{imports}; prefetcher = Prefetcher({job!r}); time.sleep(60)"
        parent = subprocess.Popen([sys.executable, "-c", code])
        wait_for((attempt_dir / "alive").exists)
        parent.kill()
        parent.wait()
        wait_for(lambda: not attempt_dir.exists())


def test_wanted_shards_are_downloaded_first_and_failures_are_recorded(image_set: Path, tmp_path: Path) -> None:
    with ShardServer(image_set) as server:
        server.always["train/shard-000001.tar"] = "404"
        folder = fetch_head(server.url, tmp_path)
        attempt_dir = folder / "starts" / "x"
        for name in ("wanted", "failed"):
            (attempt_dir / name).mkdir(parents=True)
        budget = CacheBudget(2**30, 2**29)
        scheduler = PrefetchScheduler(PrefetchJob(server.url, str(folder), str(attempt_dir), budget, "windowed", 2, 1))
        for shard in ("validate%shard-000000.tar", "train%shard-000001.tar"):
            (attempt_dir / "wanted" / shard).touch()

        def advance() -> bool:
            scheduler.advance()
            return (attempt_dir / "failed" / "train%shard-000001.tar").exists() and not any(
                (attempt_dir / "wanted").glob("validate*")
            )

        wait_for(advance)
        assert (folder / "validate/shard-000000.tar").exists()
        assert index_path(folder / "validate/shard-000000.tar").exists()
        assert not (folder / "train/shard-000002.tar").exists()  # no position has been reported
        scheduler.move_to(0)
        wait_for(lambda: scheduler.advance() or len(list(folder.glob("train/*.tar"))) == 8)
        assert server.requests["train/shard-000001.tar"] == 1


def test_messages_arrive_in_pieces() -> None:
    reading, writing = os.pipe()
    try:
        messages = read_messages(reading, os.getppid())
        os.write(writing, b'{"position": 1}\n{"posi')
        assert next(messages) == [{"position": 1}]
        assert next(messages) == []
        os.write(writing, b'tion": 2}\n')
        assert next(messages) == [{"position": 2}]
        os.close(writing)
        assert list(messages) == []
        assert list(read_messages(reading, parent=-1)) == []
    finally:
        os.close(reading)


def test_only_one_process_of_an_attempt_is_alive(tmp_path: Path) -> None:
    assert not is_released(tmp_path / "alive")
    lock = lock_attempt(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["alive"]
    assert not is_released(tmp_path / "alive")
    lock.close()
    assert is_released(tmp_path / "alive")
    with lock_attempt(tmp_path):
        assert not is_released(tmp_path / "alive")


def test_a_full_disk_is_reported_as_one(image_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(*_: object) -> bool:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(prefetch_process, "fetch_shard", fill)
    with ShardServer(image_set) as server:
        folder = fetch_head(server.url, tmp_path)
        attempt_dir = folder / "starts" / "x"
        for name in ("wanted", "failed"):
            (attempt_dir / name).mkdir(parents=True)
        budget = CacheBudget(2**30, 2**29)
        scheduler = PrefetchScheduler(PrefetchJob(server.url, str(folder), str(attempt_dir), budget, "windowed", 2, 1))
        shard = "train%shard-000001.tar"
        (attempt_dir / "wanted" / shard).touch()
        wait_for(lambda: scheduler.advance() or (attempt_dir / "failed" / shard).exists())
    found = json.loads((attempt_dir / "failed" / shard).read_text())
    assert found == {"cache": f"{folder}, in which nothing can be written: No space left on device"}
