"""The sample cache: correct with concurrent and killed processes and full memory, and removed without leftovers."""

import multiprocessing
import os
import shutil
import signal
import time
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from vqdist.config.schema import DataSection
from vqdist.data.loading import sample_cache
from vqdist.data.loading.batch import SampleInfo
from vqdist.data.loading.pipeline import DataPipeline
from vqdist.data.loading.sample_cache import SampleCache, open_caches
from vqdist.data.shards.manifest import load_manifest
from vqdist.foundation.errors import DataError

# Since Python 3.12 every fork beside a thread is warned of; torch has threads.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

SHAPE = (1, 64, 64)


def value_of(index: int) -> np.ndarray:
    return np.full(SHAPE, index % 251 + 1, np.uint8)


def info_of(index: int) -> SampleInfo:
    return SampleInfo(f"key-{index}-ä", index % 3 - 1, index)


def fill(path: Path, start: int, count: int, pause_s: float = 0.0) -> None:
    cache = SampleCache(path, count, SHAPE, np.uint8)
    for i in range(count):
        index = (start + i) % count
        cache.put(index, value_of(index), info_of(index))
        time.sleep(pause_s)


def check(cache: SampleCache, count: int) -> int:
    """Check every cached sample; return their number."""
    cached = 0
    for index in range(count):
        out = np.zeros((1, *SHAPE), np.uint8)
        info = cache.take([index], out)
        if info is not None:
            cached += 1
            assert info == [info_of(index)]
            assert np.array_equal(out[0], value_of(index))
    return cached


def test_a_sample_that_one_process_puts_is_available_to_all(tmp_path: Path) -> None:
    path = tmp_path / "cache"
    first, second = (SampleCache(path, 10, SHAPE, np.uint8) for _ in range(2))
    out = np.zeros((3, *SHAPE), np.uint8)
    for index in (7, 2):
        first.put(index, value_of(index), info_of(index))
    assert second.take([2, 7, 3], out) is None
    assert second.take(np.array([7, 2]), out) == [info_of(7), info_of(2)]
    assert np.array_equal(out, np.stack([value_of(7), value_of(2), np.zeros(SHAPE, np.uint8)]))
    assert not second.is_complete()
    for index in range(10):
        second.put(index, value_of(index), info_of(index))
    assert first.is_complete()
    first.unlink()
    assert list(tmp_path.iterdir()) == []
    assert check(second, 10) == 10


def test_killed_processes_leave_complete_samples_only(tmp_path: Path) -> None:
    path, count = tmp_path / "cache", 400
    cache = SampleCache(path, count, SHAPE, np.uint8)
    context = multiprocessing.get_context("fork")
    fillers = [context.Process(target=fill, args=(path, start, count, 2e-3)) for start in (0, 0, 200)]
    for filler in fillers:
        filler.start()
    try:
        while check(cache, count) < 50:
            time.sleep(0.001)
        for filler in fillers:
            os.kill(filler.pid or 0, signal.SIGKILL)
            time.sleep(0.003)
    finally:
        for filler in fillers:
            filler.kill()
            filler.join()
    cached = check(cache, count)
    assert 50 <= cached < count
    fill(path, 0, count)
    assert check(cache, count) == count


def test_a_sample_without_its_complete_byte_is_not_cached(tmp_path: Path) -> None:
    cache = SampleCache(tmp_path / "cache", 2, SHAPE, np.uint8)
    cache._values.write(1, value_of(1))
    cache._heads.write(1, b"x" * 256)
    assert cache.take([1], np.zeros((1, *SHAPE), np.uint8)) is None


def test_full_memory_is_logged_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = SampleCache(tmp_path / "cache", 3, SHAPE, np.uint8)
    monkeypatch.setattr(os, "pwrite", lambda *_: 5)
    for index in range(3):
        cache.put(index, value_of(index), info_of(index))
    monkeypatch.undo()
    assert check(cache, 3) == 0
    assert capsys.readouterr().err.count("No space left") == 1


def test_a_sample_with_a_long_key_is_not_cached(tmp_path: Path) -> None:
    cache = SampleCache(tmp_path / "cache", 1, SHAPE, np.uint8)
    cache.put(0, value_of(0), SampleInfo("k" * 300, 0, 0))
    assert not cache.is_complete()


def test_the_cache_goes_to_memory_or_the_folder_or_raises(
    image_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = load_manifest(image_set)
    free = {"memory": 2**30, "fallback": 2**30}
    monkeypatch.setattr(sample_cache, "MEMORY_FOLDER", tmp_path / "memory")
    monkeypatch.setattr(sample_cache, "free_bytes", lambda folder: free[folder.name])
    (tmp_path / "memory").mkdir()
    for short, expected in (("", "memory"), ("memory", "fallback")):
        free[short] = 1000
        caches = open_caches(manifest, token="a" * 32, fallback_folder=tmp_path / "fallback")
        assert set(caches) == {"train", "validate"}
        assert len(list((tmp_path / expected).iterdir())) == 6
    assert "go to the folder" in capsys.readouterr().err
    free["fallback"] = 1000
    with pytest.raises(DataError, match=r"data\.cache"):
        open_caches(manifest, token="a" * 32, fallback_folder=tmp_path / "fallback")


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("kind", ["images", "codes"])
def test_cached_batches_are_the_same_and_shards_are_read_once(
    kind: str, num_workers: int, image_set: Path, code_set: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(image_set if kind == "images" else code_set, data)
    manifest = load_manifest(data)

    def open_pipeline(cache: str) -> DataPipeline:
        settings = DataSection(path=str(data), global_batch_size=8, num_workers=num_workers, cache=cache)
        caches = {} if cache == "none" else open_caches(manifest, token="t", fallback_folder=tmp_path)
        for opened in caches.values():
            opened.unlink()
        return DataPipeline(str(data), manifest, settings, seed=1, rank=0, world_size=1, timeout_s=60, caches=caches)

    plain, cached = open_pipeline("none"), open_pipeline("memory")
    expected = [step[0] for step in islice(plain.train_steps(0), 90)]
    steps = cached.train_steps(0)
    found = [next(steps)[0] for _ in range(80)]  # ten epochs
    shutil.rmtree(data)
    found += [next(steps)[0] for _ in range(10)]
    for one, other in zip(expected, found, strict=True):
        assert one.keys == other.keys
        assert one.step == other.step
        for name in ("values", "label", "slice", "positions"):
            assert getattr(one, name).equal(getattr(other, name))
