"""Datasets at a URL: the same batches as from a folder, within the cache budget, and errors within the timeout."""

import json
import os
import signal
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import pytest
from shard_server import ShardServer

from vqdist.config.schema import DataSection
from vqdist.data.loading.pipeline import DataPipeline
from vqdist.data.remote.download import RetryPolicy
from vqdist.data.remote.remote_dataset import (
    Prefetcher,
    PrefetchJob,
    ShardGate,
    compute_cache_budget,
    fetch_head,
)
from vqdist.data.shards.manifest import load_manifest
from vqdist.foundation.errors import DamagedDataError, DataError, FetchError, StalledError

SETTINGS = {"global_batch_size": 8, "num_workers": 0, "window_shards": 2}


def largest(data: Path) -> int:
    return max(shard.bytes for split in load_manifest(data).splits.values() for shard in split.shards)


@contextmanager
def remote_pipeline(
    server: ShardServer, cache: Path, *, total_bytes: int = 2**30, timeout_s: float = 30.0, **settings: object
) -> Iterator[DataPipeline]:
    """Open the pipeline of a dataset at a URL, as the only rank of a node does."""
    section = DataSection(path=server.url, **(SETTINGS | settings))
    folder = fetch_head(server.url, cache)
    manifest = load_manifest(folder)
    budget = compute_cache_budget(manifest, order=section.order, window_shards=2, cache_gib=total_bytes / 2**30)
    attempt_dir = folder / "starts" / uuid.uuid4().hex
    policy = RetryPolicy(attempts=3, first_pause_s=0.01, timeout_s=1.0)
    job = PrefetchJob(server.url, str(folder), str(attempt_dir), budget, section.order, 2, 1, policy)
    gate = ShardGate(folder, attempt_dir, timeout_s)
    pipeline = DataPipeline(
        str(folder),
        manifest,
        section,
        seed=1,
        rank=0,
        world_size=1,
        timeout_s=60,
        gate=gate,
        prefetcher=Prefetcher(job),
    )
    try:
        yield pipeline
    finally:
        pipeline.close()
        assert not attempt_dir.exists()


def local_pipeline(data: Path, **settings: object) -> DataPipeline:
    section = DataSection(path=str(data), **(SETTINGS | settings))
    return DataPipeline(str(data), load_manifest(data), section, seed=1, rank=0, world_size=1, timeout_s=60)


def keys(pipeline: DataPipeline, steps: int, start: int = 0) -> list[list[str]]:
    return [[key for batch in step for key in batch.keys] for step in islice(pipeline.train_steps(start), steps)]


def test_a_cache_of_two_windows_gives_the_batches_of_the_folder(image_set: Path, tmp_path: Path) -> None:
    bound = 6 * largest(image_set)  # two windows of train and one of the others; train has nine shards
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
        with (
            ShardServer(image_set) as server,
            remote_pipeline(server, tmp_path / "cache", total_bytes=bound) as pipeline,
        ):
            found = keys(pipeline, 16)
            validate = [key for batch in pipeline.split("validate") for key in batch.keys]
            found += keys(pipeline, 8, start=4)  # earlier steps, as after a rollback
            fetched = sum(count for name, count in server.requests.items() if name.endswith(".tar"))
    finally:
        over.set()
        thread.join()
    local = local_pipeline(image_set)
    assert found == keys(local, 16) + keys(local, 8, start=4)
    assert validate == [key for batch in local.split("validate") for key in batch.keys]
    assert fetched > 9 + 2
    assert 3 * largest(image_set) < most <= bound


def test_network_faults_change_nothing(image_set: Path, tmp_path: Path) -> None:
    with ShardServer(image_set) as server:
        server.faults["dataset.json"].extend(["503"])
        for number, fault in enumerate(["drop", "short", "503", "reset", "flip"]):
            server.faults[f"train/shard-{number:06d}.tar"].append(fault)
            server.faults[f"train/shard-{number:06d}.index.json"].append(fault)
        with remote_pipeline(server, tmp_path, num_workers=2) as pipeline:
            assert keys(pipeline, 8) == keys(local_pipeline(image_set), 8)
        assert server.requests["train/shard-000003.tar"] == 2


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize(
    ("fault", "error"), [("404", DamagedDataError), ("flip", DamagedDataError), ("503", FetchError)]
)
def test_a_shard_that_cannot_be_downloaded_is_named(
    fault: str, error: type[Exception], num_workers: int, image_set: Path, tmp_path: Path
) -> None:
    with ShardServer(image_set) as server:
        server.always["train/shard-000004.tar"] = fault
        with remote_pipeline(server, tmp_path, num_workers=num_workers) as pipeline:
            with pytest.raises(error, match=r"train/shard-000004\.tar"):
                keys(pipeline, 8)


def test_a_missing_shard_is_skipped_and_counted(image_set: Path, tmp_path: Path) -> None:
    with ShardServer(image_set) as server:
        server.always["train/shard-000004.tar"] = "404"
        with remote_pipeline(server, tmp_path, on_error="skip", global_batch_size=6) as pipeline:
            steps = [step[0] for step in islice(pipeline.train_steps(0), 10)]
    assert sum(batch.num_samples for batch in steps) == 60 - 7
    assert sum(len(batch.skipped) for batch in steps) == 7


def test_a_killed_prefetch_process_is_an_error_at_once(image_set: Path, tmp_path: Path) -> None:
    with ShardServer(image_set) as server:
        server.always["train/shard-000004.tar"] = "hang"
        with remote_pipeline(server, tmp_path, num_workers=1, timeout_s=1000) as pipeline:
            steps = pipeline.train_steps(0)
            next(steps)
            assert pipeline._prefetcher is not None
            os.kill(pipeline._prefetcher.pid, signal.SIGKILL)
            with pytest.raises(StalledError, match="the prefetch process has ended"):
                list(islice(steps, 20))


def test_a_hanging_server_is_an_error_after_the_timeout(image_set: Path, tmp_path: Path) -> None:
    with ShardServer(image_set) as server:
        for number in range(9):
            server.always[f"train/shard-{number:06d}.tar"] = "hang"
        with remote_pipeline(server, tmp_path, timeout_s=0.5) as pipeline:
            with pytest.raises(StalledError, match=r"run\.timeout_s"):
                keys(pipeline, 1)


def test_runs_that_share_the_cache_download_each_shard_once(image_set: Path, tmp_path: Path) -> None:
    with ShardServer(image_set) as server:
        with remote_pipeline(server, tmp_path) as one, remote_pipeline(server, tmp_path) as other:
            expected = keys(local_pipeline(image_set), 16)
            assert keys(one, 16) == expected
            assert keys(other, 16) == expected
        with remote_pipeline(server, tmp_path) as later:
            assert keys(later, 16) == expected
        assert {count for name, count in server.requests.items() if name.endswith(".tar")} == {1}


def test_runs_that_share_a_small_cache_make_progress(image_set: Path, tmp_path: Path) -> None:
    bound = 6 * largest(image_set)
    expected = keys(local_pipeline(image_set), 16)
    with ShardServer(image_set) as server:
        with remote_pipeline(server, tmp_path, total_bytes=bound) as one:
            with remote_pipeline(server, tmp_path, total_bytes=bound) as other:
                streams = [pipeline.train_steps(0) for pipeline in (one, other)]
                found: list[list[list[str]]] = [[], []]
                for _ in range(16):
                    for stream, so_far in zip(streams, found, strict=True):
                        so_far.append([key for batch in next(stream) for key in batch.keys])
    assert found == [expected, expected]


def test_the_cache_budget_has_a_lower_bound(image_set: Path) -> None:
    manifest = load_manifest(image_set)
    two_windows = 6 * largest(image_set) / 2**30
    assert compute_cache_budget(manifest, order="windowed", window_shards=2, cache_gib=two_windows).reserved_bytes > 0
    with pytest.raises(DataError, match=r"data\.cache_gib.*two windows"):
        compute_cache_budget(manifest, order="windowed", window_shards=2, cache_gib=two_windows / 2)
    with pytest.raises(DataError, match=r"data\.cache_gib.*data\.order full"):
        compute_cache_budget(manifest, order="full", window_shards=2, cache_gib=two_windows)
    assert compute_cache_budget(manifest, order="full", window_shards=2, cache_gib=1)


def test_the_full_order_reads_from_whole_shards(image_set: Path, tmp_path: Path) -> None:
    with ShardServer(image_set) as server, remote_pipeline(server, tmp_path, order="full") as pipeline:
        assert keys(pipeline, 16) == keys(local_pipeline(image_set, order="full"), 16)


def test_a_url_without_dataset_is_refused(image_set: Path, tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text('{"format_version": 1, "kind": "images"}')
    with ShardServer(tmp_path) as server, pytest.raises(DataError, match=r"dataset\.json"):
        fetch_head(server.url, tmp_path / "cache")
    with ShardServer(tmp_path / "nothing") as server, pytest.raises(DataError, match="404"):
        fetch_head(server.url, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_shard_that_cannot_be_written_names_the_cache_folder(tmp_path: Path) -> None:
    attempt_dir = tmp_path / "starts" / "x"
    for name in ("wanted", "failed"):
        (attempt_dir / name).mkdir(parents=True)
    failure = {"cache": f"{tmp_path}, in which nothing can be written: No space left on device"}
    (attempt_dir / "failed" / "train%shard-000000.tar").write_text(json.dumps(failure))
    with pytest.raises(DataError, match=r"data\.cache_dir: found .*No space left on device") as caught:
        ShardGate(tmp_path, attempt_dir, 30.0).wait_for("train/shard-000000.tar")
    assert not isinstance(caught.value, DamagedDataError), "data.on_error must not skip its samples"
