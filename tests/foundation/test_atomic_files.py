"""Where a command may write, told before it works."""

import os
from pathlib import Path

import pytest

from vqdist.foundation.atomic_files import write_access_problems


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a folder, a file, and links to them, to nothing and to themselves; the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for link, target in (("to-folder", "folder"), ("to-nothing", "new"), ("loop", "loop")):
        (tmp_path / link).symlink_to(target)
    return tmp_path


@pytest.mark.parametrize(
    ("path", "as_folder", "as_file"),
    [
        ("folder", "", "folder, which is a folder; expected a file to write"),
        ("to-folder", "", "folder, which is a folder; expected a file to write"),
        ("file", "file, which is a file; expected a folder to write to", ""),
        ("file/sub/new", "file, which is a file", "file, which is a file"),
        ("folder/new/deeper", "", ""),
        ("to-nothing", "", ""),
        ("loop", "loop, which is a link to itself", "loop, which is a link to itself"),
        ("loop/new", "loop, which is a link to itself", "loop, which is a link to itself"),
    ],
)
def test_what_is_in_the_way_is_named(place: Path, path: str, as_folder: str, as_file: str) -> None:
    before = sorted(place.rglob("*"))
    for folder, expected in ((True, as_folder), (False, as_file)):
        told = [str(problem) for problem in write_access_problems("--out", path, folder=folder)]
        assert len(told) == bool(expected)
        assert all(text.startswith(f"--out: found {place}/{expected}") for text in told)
    assert sorted(place.rglob("*")) == before


def test_a_folder_without_leave_to_write_is_named(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != place / "folder")
    (problem,) = write_access_problems("run.dir", "folder/a/b", folder=True)
    assert problem.found == f"{place}/folder, which you may not write"
    assert write_access_problems("run.dir", "other/a", folder=True) == []
