"""Locks on files, and a package that is importable where there are none."""

import subprocess
import sys
from pathlib import Path

import pytest

from vqdist.foundation.errors import UserError
from vqdist.foundation.file_locks import lock_file


def test_a_lock_is_exclusive_until_its_file_is_closed(tmp_path: Path) -> None:
    with open(tmp_path / "lock", "ab") as held, open(tmp_path / "lock", "rb") as other:
        lock_file(held)
        for shared in (True, False):
            with pytest.raises(BlockingIOError):
                lock_file(other, shared=shared, wait=False)
        held.close()
        lock_file(other, wait=False)


def test_shared_locks_are_held_together(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    with open(tmp_path / "lock", "rb") as first, open(tmp_path / "lock", "rb") as second:
        lock_file(first, shared=True)
        lock_file(second, shared=True, wait=False)
        with open(tmp_path / "lock", "rb") as third, pytest.raises(BlockingIOError):
            lock_file(third, wait=False)


def test_a_system_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with (
        open(tmp_path / "lock", "ab") as file,
        pytest.raises(UserError, match="expected Linux or macOS; on Windows use WSL"),
    ):
        lock_file(file)


def test_every_module_is_importable_without_what_only_linux_has() -> None:
    """As on macOS, where os has no CPU affinity, and without fcntl and resource."""
    program = """
import importlib, os, pkgutil, sys
sys.modules["fcntl"] = sys.modules["resource"] = None
del os.sched_getaffinity, os.sched_setaffinity
sys.platform = "darwin"
import vqdist
for found in pkgutil.walk_packages(vqdist.__path__, "vqdist."):
    if not found.name.endswith("__main__"):
        importlib.import_module(found.name)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
