"""The cache folder and what is wrong with it, free memory, and the folder that a path would be created in."""

import errno
from pathlib import Path

import pytest

from vqdist.data import cache_dir
from vqdist.data.cache_dir import (
    cache_dir_problems,
    free_memory_bytes,
    nearest_folder,
    reporting_cache_errors,
    resolve_cache_dir,
)
from vqdist.foundation.errors import DataError

CGROUP = Path("/sys/fs/cgroup")
MEMINFO = {Path("/proc/meminfo"): "MemTotal:  9000 kB\nMemAvailable:  8000 kB\n"}
VERSION_2 = {
    Path("/proc/self/cgroup"): "0::/jobs/7\n",
    CGROUP / "jobs/7/memory.max": "max\n",
    CGROUP / "jobs/7/memory.current": "2000\n",
    CGROUP / "jobs/memory.max": "5000\n",
    CGROUP / "jobs/memory.current": "3000\n",
    CGROUP / "jobs/memory.stat": "anon 1\nfile 700\nshmem 200\n",
}
VERSION_1 = {CGROUP / "memory/memory.limit_in_bytes": "5000\n", CGROUP / "memory/memory.usage_in_bytes": "1000\n"}


@pytest.mark.parametrize(
    ("files", "free"),
    [({}, None), (MEMINFO, 8_192_000), (MEMINFO | VERSION_2, 5000 - 3000 + 700 - 200), (MEMINFO | VERSION_1, 4000)],
)
def test_free_memory_is_the_smallest_limit(
    monkeypatch: pytest.MonkeyPatch, files: dict[Path, str], free: int | None
) -> None:
    monkeypatch.setattr(cache_dir, "_read", lambda path: files.get(path, ""))
    assert free_memory_bytes() == free


def test_nearest_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    assert nearest_folder(tmp_path) == tmp_path
    assert nearest_folder(tmp_path / "file" / "a") == tmp_path
    monkeypatch.chdir(tmp_path)
    assert nearest_folder(Path("new/run")) == tmp_path


def test_without_a_home_folder_the_key_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", refuse)
    with pytest.raises(DataError, match=r"data\.cache_dir: found null, and no home folder"):
        resolve_cache_dir(None)
    with pytest.raises(DataError, match=r"data\.cache_dir: found ~nobody-has-this-name/cache"):
        resolve_cache_dir("~nobody-has-this-name/cache")
    assert "XDG_CACHE_HOME" in str(cache_dir_problems(None)[0])


def test_a_folder_that_cannot_be_made_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (problem,) = cache_dir_problems(tmp_path / "file" / "cache")
    assert str(problem).startswith(f"data.cache_dir: found {tmp_path / 'file'}, which is a file; expected a folder")
    assert cache_dir_problems(tmp_path / "new" / "cache") == []
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("error", "named"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), True),
        (PermissionError(errno.EACCES, "Permission denied", "/caches/mine/x/.lock"), True),
        (PermissionError(errno.EACCES, "Permission denied", "/caches"), True),
        (PermissionError(errno.EACCES, "Permission denied", "/data/train.tar"), False),
        (OSError(errno.EIO, "Input/output error"), False),
    ],
)
def test_only_errors_of_the_cache_folder_name_its_key(error: OSError, named: bool) -> None:
    with pytest.raises(DataError if named else OSError) as caught, reporting_cache_errors(Path("/caches/mine")):
        raise error
    if named:
        assert str(caught.value).startswith(
            f"data.cache_dir: found /caches/mine, in which nothing can be written: {error.strerror}"
        )
