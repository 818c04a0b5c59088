"""Shards at an address: the same batches as from a folder, in bounded room, and errors in bounded time."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
from shard_server import ShardServer, wait_for

from vqdist.config.schema import DataSection
from vqdist.data.loading.pipeline import DataPipeline
from vqdist.data.open import locate_dataset
from vqdist.data.remote.prefetch_process import Plan, Store
from vqdist.data.remote.remote_dataset import Fetcher, Job, ShardGate, fetch_head, plan_room
from vqdist.data.shards.manifest import load_manifest
from vqdist.foundation.errors import DamagedDataError, DataError, FetchError, StalledError

SETTINGS = {"global_batch_size": 8, "num_workers": 0, "window_shards": 2}


def largest(data: Path) -> int:
    return max(shard.bytes for split in load_manifest(data).splits.values() for shard in split.shards)


@contextmanager
def remote_feed(
    server: ShardServer, cache: Path, *, total_bytes: int = 2**30, timeout_s: float = 30.0, **settings: object
) -> Iterator[DataPipeline]:
    """Open a feed on a served data set, as a rank that is alone on its node does."""
    section = DataSection(path=server.address, **(SETTINGS | settings))
    folder = fetch_head(server.address, cache)
    manifest = load_manifest(folder)
    room = plan_room(manifest, order=section.order, window_shards=2, cache_gib=total_bytes / 2**30)
    start = folder / "starts" / uuid.uuid4().hex
    job = Job(server.address, str(folder), str(start), room.total, room.spare, section.order, 2, 1)
    fetcher = Fetcher(replace(job, tries=3, first_pause_s=0.01, silence_s=1.0))
    gate = ShardGate(folder, start, timeout_s)
    feed = DataPipeline(
        str(folder), manifest, section, seed=1, rank=0, world_size=1, timeout_s=60, gate=gate, fetcher=fetcher
    )
    try:
        yield feed
    finally:
        feed.close()
        assert not start.exists()


def local_feed(data: Path, **settings: object) -> DataPipeline:
    section = DataSection(path=str(data), **(SETTINGS | settings))
    return DataPipeline(str(data), load_manifest(data), section, seed=1, rank=0, world_size=1, timeout_s=60)


def keys(feed: DataPipeline, steps: int, start: int = 0) -> list[list[str]]:
    return [[key for batch in step for key in batch.keys] for step in islice(feed.train_steps(start), steps)]


def test_in_room_for_two_windows_the_batches_are_those_of_the_folder(image_set: Path, tmp_path: Path) -> None:
    bound = 6 * largest(image_set)  # two windows of train, one of the rest; train has nine shards
    most = 0
    over = threading.Event()

    def watch() -> None:
        nonlocal most
        while not over.wait(0.002):
            sizes = []
            for path in list(tmp_path.glob("cache/remote/*/*/*.tar")):
                try:
                    sizes.append(path.stat().st_size)
                except FileNotFoundError:
                    continue
            most = max(most, sum(sizes))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        with ShardServer(image_set) as server, remote_feed(server, tmp_path / "cache", total_bytes=bound) as feed:
            found = keys(feed, 16)
            validate = [key for batch in feed.split("validate") for key in batch.keys]
            found += keys(feed, 8, start=4)  # back, as after a rollback
            fetched = sum(count for name, count in server.requests.items() if name.endswith(".tar"))
    finally:
        over.set()
        thread.join()
    local = local_feed(image_set)
    assert found == keys(local, 16) + keys(local, 8, start=4)
    assert validate == [key for batch in local.split("validate") for key in batch.keys]
    assert fetched > 9 + 2
    assert 3 * largest(image_set) < most <= bound


def test_faults_on_the_way_cost_time_only(image_set: Path, tmp_path: Path) -> None:
    with ShardServer(image_set) as server:
        server.faults["dataset.json"].extend(["503"])
        for number, fault in enumerate(["drop", "short", "503", "reset", "flip"]):
            server.faults[f"train/shard-{number:06d}.tar"].append(fault)
            server.faults[f"train/shard-{number:06d}.index.json"].append(fault)
        with remote_feed(server, tmp_path, num_workers=2) as feed:
            assert keys(feed, 8) == keys(local_feed(image_set), 8)
        assert server.requests["train/shard-000003.tar"] == 2


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize(
    ("fault", "error"), [("404", DamagedDataError), ("flip", DamagedDataError), ("503", FetchError)]
)
def test_a_shard_that_cannot_be_had_is_named(
    fault: str, error: type[Exception], num_workers: int, image_set: Path, tmp_path: Path
) -> None:
    with ShardServer(image_set) as server:
        server.always["train/shard-000004.tar"] = fault
        with remote_feed(server, tmp_path, num_workers=num_workers) as feed:
            with pytest.raises(error, match=r"train/shard-000004\.tar"):
                keys(feed, 8)


def test_a_missing_shard_is_skipped_and_counted_where_asked(image_set: Path, tmp_path: Path) -> None:
    with ShardServer(image_set) as server:
        server.always["train/shard-000004.tar"] = "404"
        with remote_feed(server, tmp_path, on_error="skip", global_batch_size=6) as feed:
            steps = [step[0] for step in islice(feed.train_steps(0), 10)]
    assert sum(batch.num_samples for batch in steps) == 60 - 7
    assert sum(len(batch.skipped) for batch in steps) == 7


def test_a_fetcher_that_is_killed_is_an_error_at_once(image_set: Path, tmp_path: Path) -> None:
    with ShardServer(image_set) as server:
        server.always["train/shard-000004.tar"] = "hang"
        with remote_feed(server, tmp_path, num_workers=1) as feed:
            steps = feed.train_steps(0)
            next(steps)
            assert feed._fetcher is not None
            os.kill(feed._fetcher.pid, signal.SIGKILL)
            began = time.monotonic()
            with pytest.raises(StalledError, match="is gone"):
                list(islice(steps, 20))
            assert time.monotonic() - began < 10


def test_a_server_that_hangs_is_an_error_in_bounded_time(image_set: Path, tmp_path: Path) -> None:
    with ShardServer(image_set) as server:
        for number in range(9):
            server.always[f"train/shard-{number:06d}.tar"] = "hang"
        with remote_feed(server, tmp_path, timeout_s=0.5) as feed:
            with pytest.raises(StalledError, match=r"run\.timeout_s"):
                keys(feed, 1)


def test_runs_that_share_the_cache_share_what_is_fetched(image_set: Path, tmp_path: Path) -> None:
    with ShardServer(image_set) as server:
        with remote_feed(server, tmp_path) as one, remote_feed(server, tmp_path) as other:
            expected = keys(local_feed(image_set), 16)
            assert keys(one, 16) == expected
            assert keys(other, 16) == expected
        with remote_feed(server, tmp_path) as later:
            assert keys(later, 16) == expected
        assert {count for name, count in server.requests.items() if name.endswith(".tar")} == {1}


def test_runs_that_share_too_little_room_get_on(image_set: Path, tmp_path: Path) -> None:
    bound = 6 * largest(image_set)
    expected = keys(local_feed(image_set), 16)
    with ShardServer(image_set) as server:
        with remote_feed(server, tmp_path, total_bytes=bound) as one:
            with remote_feed(server, tmp_path, total_bytes=bound) as other:
                streams = [feed.train_steps(0) for feed in (one, other)]
                found: list[list[list[str]]] = [[], []]
                for _ in range(16):
                    for stream, so_far in zip(streams, found, strict=True):
                        so_far.append([key for batch in next(stream) for key in batch.keys])
    assert found == [expected, expected]


def test_what_a_killed_run_held_is_let_go(image_set: Path, tmp_path: Path) -> None:
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
    store = Store(folder / "starts/ours", total)
    store.hold(["train/shard-000001.tar"])
    assert store.make_room(2 * shards[0].stat().st_size)
    left = sorted(path.name for path in folder.glob("train/*.tar"))
    assert left == [shard.name for shard in shards if shard.name not in ("shard-000000.tar", "shard-000002.tar")]
    assert not (folder / "train/shard-000000.index.json").exists()
    assert not (folder / "starts/killed").exists()
    assert not store.make_room(total)


def test_the_plan_begins_with_the_window_at_hand_and_stays_in_its_room(image_set: Path) -> None:
    manifest = load_manifest(image_set)
    sizes = {shard.name: shard.bytes for shard in manifest.splits["train"].shards}
    job = Job("http://x", "", "", 5 * largest(image_set), largest(image_set), "windowed", 2, 1)
    plan = Plan(manifest, job)
    feed = local_feed(image_set)
    for position in (0, 13, 14, 59, 60, 1000):
        names, end = plan.list_shards(position)
        window, window_end = feed.order.shards_of_window(position)
        assert names[: len(window)] == [manifest.splits["train"].shards[number].name for number in window]
        assert end == window_end
        assert sum(sizes[name] for name in names) <= 4 * largest(image_set)
    everything, _ = Plan(manifest, replace(job, total_bytes=2**30)).list_shards(0)
    assert sorted(everything) == sorted(sizes)


def test_too_little_room_and_the_full_order(image_set: Path) -> None:
    manifest = load_manifest(image_set)
    two_windows = 6 * largest(image_set) / 2**30
    assert plan_room(manifest, order="windowed", window_shards=2, cache_gib=two_windows).spare > 0
    with pytest.raises(DataError, match=r"data\.cache_gib.*two windows"):
        plan_room(manifest, order="windowed", window_shards=2, cache_gib=two_windows / 2)
    with pytest.raises(DataError, match=r"data\.cache_gib.*data\.order full"):
        plan_room(manifest, order="full", window_shards=2, cache_gib=two_windows)
    assert plan_room(manifest, order="full", window_shards=2, cache_gib=1)


def test_the_full_order_reads_from_whole_shards(image_set: Path, tmp_path: Path) -> None:
    with ShardServer(image_set) as server, remote_feed(server, tmp_path, order="full") as feed:
        assert keys(feed, 16) == keys(local_feed(image_set, order="full"), 16)


def test_the_head_of_codes_brings_their_model(code_set: Path, tmp_path: Path) -> None:
    with ShardServer(code_set) as server:
        folder = locate_dataset(server.address, tmp_path)
        assert locate_dataset(server.address, tmp_path) == folder
    for name in ("config.json", "model.safetensors"):
        assert (folder / "vqvae" / name).read_bytes() == (code_set / "vqvae" / name).read_bytes()
    assert load_manifest(folder) == load_manifest(code_set)


def test_what_is_no_data_set_is_refused(image_set: Path, tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text('{"format_version": 1, "kind": "images"}')
    with ShardServer(tmp_path) as server, pytest.raises(DataError, match=r"dataset\.json"):
        fetch_head(server.address, tmp_path / "cache")
    with ShardServer(tmp_path / "nothing") as server, pytest.raises(DataError, match="404"):
        fetch_head(server.address, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_fetcher_ends_with_its_parent(image_set: Path, tmp_path: Path) -> None:
    with ShardServer(image_set) as server:
        folder = fetch_head(server.address, tmp_path)
        start = folder / "starts" / "x"
        job = Job(server.address, str(folder), str(start), 2**30, 0, "windowed", 2, 1)
        imports = "import time; from vqdist.data.remote.remote_dataset import *"
        code = f"{imports}; fetcher = Fetcher({job!r}); time.sleep(60)"
        parent = subprocess.Popen([sys.executable, "-c", code])
        wait_for((start / "alive").exists)
        parent.kill()
        parent.wait()
        wait_for(lambda: not start.exists())
