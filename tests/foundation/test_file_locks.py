"""Locks on files, and a package that is importable where there are none."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from vqdist.foundation.errors import UserError
from vqdist.foundation.file_locks import lock_file

PACKAGE = Path(__file__).parents[2] / "vqdist"
UNIX_ONLY = {"fcntl", "resource", "termios", "pwd", "grp"}


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


def test_no_module_needs_what_only_linux_or_unix_has_before_it_is_used() -> None:
    for path in PACKAGE.rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.partition(".")[0] for name in names} & UNIX_ONLY, path


def test_what_locks_files_is_importable_without_fcntl() -> None:
    """As on Windows; and as on macOS, where os has no CPU affinity."""
    program = """
import os, sys
sys.modules["fcntl"] = sys.modules["resource"] = None
del os.sched_getaffinity, os.sched_setaffinity
import vqdist.cli, vqdist.foundation.atomic_files, vqdist.data.shards.third_party
import vqdist.data.remote.prefetch_process, vqdist.data.remote.remote_dataset, vqdist.runs.environment
assert vqdist.runs.environment.count_cores() >= 1
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr


def test_processes_are_forked_only_where_that_is_safe() -> None:
    lines = [line for path in PACKAGE.rglob("*.py") for line in path.read_text().splitlines() if '"fork"' in line]
    assert lines
    assert all('if sys.platform == "linux"' in line for line in lines)
