"""Files and folders that are written whole or not at all, and checks of where a command may write."""

import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from vqdist.foundation.atomic_files import (
    aside_path,
    atomic_folder,
    check_output,
    clear_leftovers,
    find_leftovers,
    locked_file,
    output_folder,
    reporting_storage_errors,
    write_access_problems,
    write_atomic,
    write_folder,
)
from vqdist.foundation.errors import DataError, StorageError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def read_tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_atomic(tmp_path / "file", b"old")

    def fail(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        write_atomic(tmp_path / "file", b"new")
    monkeypatch.undo()
    assert names(tmp_path) == ["file"]
    assert (tmp_path / "file").read_bytes() == b"old"
    write_atomic(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"


def test_threads_that_write_one_file_leave_one_of_their_contents(tmp_path: Path) -> None:
    contents = [bytes([number]) * 10_000 for number in range(8)]
    threads = [threading.Thread(target=write_atomic, args=(tmp_path / "file", data)) for data in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "file").read_bytes() in contents
    assert names(tmp_path) == ["file"]


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    write_folder(tmp_path / "new" / "out", {"a": b"1", "sub/b": b"2"})
    write_folder(tmp_path / "new" / "out", {"c": b"3"}, check=lambda: None)
    assert read_tree(tmp_path) == {"new/out/c": b"3"}
    assert names(tmp_path / "new") == ["out"]


def test_the_check_runs_before_the_rename_with_everything_written(tmp_path: Path) -> None:
    write_folder(tmp_path / "out", {"a": b"old"})
    seen = []

    def refuse() -> None:
        seen.append(read_tree(tmp_path))
        raise RuntimeError("not the owner")

    with pytest.raises(RuntimeError, match="not the owner"):
        write_folder(tmp_path / "out", {"a": b"new"}, check=refuse)
    assert sorted(seen[0].values()) == [b"new", b"old"]
    assert read_tree(tmp_path) == {"out/a": b"old"}


def test_an_error_in_the_block_leaves_the_old_folder(tmp_path: Path) -> None:
    write_folder(tmp_path / "out", {"a": b"old"})

    def write_half() -> None:
        with atomic_folder(tmp_path / "out") as folder:
            (folder / "a").write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert read_tree(tmp_path) == {"out/a": b"old"}


def test_the_old_folder_is_moved_back_if_the_new_one_cannot_take_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path / "out", {"a": b"old"})
    real = Path.rename

    def rename(path: Path, target: Path) -> Path:
        if ".tmp-" in path.name:
            assert read_tree(aside_path(tmp_path / "out")) == {"a": b"old"}  # where a reader finds it
            raise OSError(5, "Input/output error")
        return real(path, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(OSError, match="Input/output"):
        write_folder(tmp_path / "out", {"a": b"new"})
    assert read_tree(tmp_path) == {"out/a": b"old"}


def test_every_file_and_folder_is_synced_before_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        synced.append(os.fstat(handle).st_ino)
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)

    def check() -> None:
        (folder,) = tmp_path.iterdir()
        assert {path.stat().st_ino for path in (folder, *folder.rglob("*"))} == set(synced)

    write_folder(tmp_path / "out", {"a": b"1", "sub/b": b"2"}, check=check)
    assert synced[-1] == tmp_path.stat().st_ino


def test_leftovers_of_all_versions_are_cleared(tmp_path: Path) -> None:
    for name in (".a.tmp-0a1b2c3d", ".a.123.tmp", "step-00000003.0a1b2c3d.tmp", ".b.tmp-0a1b2c3d"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    (tmp_path / ".status.json.77.tmp").touch()
    kept = ["a", "notes.tmp", "a.old", "x.tmp-1", ".hidden", ".a.tmp-locked", "b.part"]
    for name in kept:
        (tmp_path / name).touch()
    clear_leftovers(tmp_path, "b")
    assert not (tmp_path / ".b.tmp-0a1b2c3d").exists()
    assert (tmp_path / ".a.tmp-0a1b2c3d").exists()
    clear_leftovers(tmp_path)
    assert names(tmp_path) == sorted(kept)
    clear_leftovers(tmp_path / "missing")


@pytest.mark.parametrize("aside", [".step-00000002.old", "step-00000002.old"])
def test_an_interrupted_replacement_is_undone(tmp_path: Path, aside: str) -> None:
    write_folder(tmp_path / aside, {"a": b"old"})
    clear_leftovers(tmp_path, "step-*")
    assert read_tree(tmp_path) == {"step-00000002/a": b"old"}
    write_folder(tmp_path / aside, {"a": b"older"})
    clear_leftovers(tmp_path, "step-*")
    assert read_tree(tmp_path) == {"step-00000002/a": b"old"}


def test_leftovers_of_an_output_are_found(tmp_path: Path) -> None:
    expected = [".out.old", ".out.tmp-0a1b2c3d", "out.old-12", "out.tmp-12"]
    for name in [*expected, "out", "out.tmp-x", ".other.tmp-0a1b2c3d", "outer.tmp-12"]:
        (tmp_path / name).mkdir()
    assert [path.name for path in find_leftovers(tmp_path / "out")] == expected
    assert find_leftovers(tmp_path / "missing" / "out") == []


def test_only_one_process_writes_a_locked_file(tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(b"left by an earlier version")
    with locked_file(tmp_path / "file") as file, locked_file(tmp_path / "file") as second:
        assert file is not None
        assert second is None
        file.write(b"content")
        assert not (tmp_path / "file").exists()
    assert names(tmp_path) == ["file"]
    assert (tmp_path / "file").read_bytes() == b"content"
    with locked_file(tmp_path / "file") as file:
        assert file is None
    assert names(tmp_path) == ["file"]
    with pytest.raises(ValueError, match="bad"), locked_file(tmp_path / "other") as file:
        raise ValueError("bad")
    assert "other" not in names(tmp_path)


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    code = (
        "import sys, fcntl; f = open(sys.argv[1], 'ab'); fcntl.flock(f, fcntl.LOCK_EX); print(1, flush=True); input()"
    )
    partial = tmp_path / ".file.tmp-locked"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code, str(partial)], **pipes) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with locked_file(tmp_path / "file") as file:
            assert file is None
        process.kill()
        process.wait()
    with partial.open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with locked_file(tmp_path / "file") as file:
        assert file is not None
        file.write(b"x")
    assert (tmp_path / "file").read_bytes() == b"x"


def test_an_output_folder_is_new_empty_or_replaced_on_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out").mkdir()
    with output_folder(tmp_path / "out") as folder:
        (folder / "a").write_bytes(b"1")
    with pytest.raises(DataError, match="--overwrite"), output_folder(tmp_path / "out"):
        raise AssertionError("the block is not entered")
    with output_folder(tmp_path / "out", overwrite=True) as folder:
        (folder / "b").write_bytes(b"2")
    assert read_tree(tmp_path) == {"out/b": b"2"}
    with pytest.raises(DataError, match="--overwrite"), output_folder(tmp_path / "late") as folder:
        write_folder(tmp_path / "late", {"a": b"another process was faster"})
    (tmp_path / "out" / "inside").mkdir()
    monkeypatch.chdir(tmp_path / "out" / "inside")
    with pytest.raises(DataError, match="working directory"):
        check_output(tmp_path / "out", overwrite=True)
    assert names(tmp_path) == ["late", "out"]


def test_storage_errors_name_the_path(tmp_path: Path) -> None:
    with (
        pytest.raises(StorageError, match=r"/data/run cannot be written: .*No space"),
        reporting_storage_errors(Path("/data/run")),
    ):
        raise OSError(28, "No space left on device")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a folder, a file, and links to a folder, to nothing and to itself."""
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
def test_obstacles_are_named(place: Path, path: str, as_folder: str, as_file: str) -> None:
    before = sorted(place.rglob("*"))
    for folder, expected in ((True, as_folder), (False, as_file)):
        found = [str(problem) for problem in write_access_problems("--out", path, folder=folder)]
        assert len(found) == bool(expected)
        assert all(text.startswith(f"--out: found {place}/{expected}") for text in found)
    assert sorted(place.rglob("*")) == before


def test_a_folder_without_write_permission_is_named(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != place / "folder")
    (problem,) = write_access_problems("run.dir", "folder/a/b", folder=True)
    assert problem.found == f"{place}/folder, which you may not write"
    assert write_access_problems("run.dir", "other/a", folder=True) == []
