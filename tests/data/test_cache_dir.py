"""Free memory within the limits of a process, and the folder that a path would be created in."""

from pathlib import Path

import pytest

from vqdist.data import cache_dir
from vqdist.data.cache_dir import free_memory_bytes, nearest_folder

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
