"""Running a command: from an error to a message and an exit code."""

import atexit
import json
import multiprocessing
import sys
import time
from pathlib import Path

import pytest
from support import is_alive, start, wait_until

from vqdist.foundation import command
from vqdist.foundation.command import MAX_PROBLEMS, emit, format_list, reporting_at_once, run_command
from vqdist.foundation.errors import ConfigError, DataError, Extent, Problem, StalledError, StorageError, UserError


def fail_with(error: BaseException) -> object:
    def main(_: object) -> int:
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (DataError.of("a", "b", "c"), 2, "error: a: found b; expected c\n"),
        (ConfigError([Problem("a", "b", "c"), Problem("d", "e", "f")]), 2, "error: 2 problems\n  - a: found b"),
        (StalledError("rank 3 died"), 1, "error: rank 3 died\n"),
        (KeyboardInterrupt(), 1, "interrupted\n"),
        (KeyboardInterrupt("nothing was written"), 1, "interrupted: nothing was written\n"),
        (
            PermissionError(13, "Permission denied", "runs/a"),
            2,
            "error: runs/a: found Permission denied; expected a path",
        ),
    ],
)
def test_errors_become_a_message_and_an_exit_code(
    error: BaseException, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(fail_with(error), []) == code
    assert capsys.readouterr().err.startswith(message)


def test_other_exceptions_are_bugs_and_keep_their_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run_command(fail_with(ZeroDivisionError()), [])


def test_a_package_that_is_not_installed_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(fail_with(ModuleNotFoundError("No module named 'nibabel.freesurfer'", name="nibabel")), []) == 2
    message = capsys.readouterr().err
    assert "found no package nibabel; expected the environment that vqdist is installed in; activate it" in message
    with pytest.raises(ModuleNotFoundError):  # a bug of ours
        run_command(fail_with(ModuleNotFoundError("No module named 'vqdist.nothing'", name="vqdist.nothing")), [])


def run_as_rank(error: UserError, monkeypatch: pytest.MonkeyPatch, **variables: str) -> int:
    """Run a command that fails on a rank of four on two machines."""
    monkeypatch.setattr(command, "end_process", lambda code: code)
    for name, value in ({"WORLD_SIZE": "4"} | variables).items():
        monkeypatch.setenv(name, value)
    return run_command(fail_with(error), [])


@pytest.mark.parametrize(
    ("extent", "speakers"), [("rank", ["0", "1", "2", "3"]), ("machine", ["0", "2"]), ("all", ["0"])]
)
def test_an_error_of_several_ranks_is_reported_by_one_of_them(
    extent: Extent, speakers: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for rank in ("0", "1", "2", "3"):
        error = DataError.of("a", "b", "c")
        error.extent = extent
        assert run_as_rank(error, monkeypatch, RANK=rank, LOCAL_RANK=str(int(rank) % 2)) == 2
        prefix = "" if rank == "0" else f"[rank {rank}] "
        assert capsys.readouterr().err == (f"{prefix}error: a: found b; expected c\n" if rank in speakers else "")
    assert (DataError([]).extent, ConfigError([]).extent) == ("rank", "machine")


def test_an_error_is_reported_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(_: object) -> int:
        with reporting_at_once():
            raise DataError.of("a", "b", "c")

    assert run_command(fail, []) == 2
    assert capsys.readouterr().err == "error: a: found b; expected c\n"
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(command, "end_process", lambda code: code)
    assert run_command(fail, []) == 2
    assert capsys.readouterr().err == "error: a: found b; expected c\n"


def leave_a_worker(folder: str) -> int:
    """Fail on a rank with a child process, a full buffer and an exit that never ends."""
    worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=[3600], daemon=True)
    worker.start()
    (Path(folder) / "worker").write_text(str(worker.pid))
    atexit.register(time.sleep, 3600)
    sys.stdout.write("the end")
    return run_command(fail_with(ZeroDivisionError("a bug")), [])


@pytest.mark.ranks
def test_an_error_of_one_of_several_ranks_ends_its_process(tmp_path: Path) -> None:
    environment = {"WORLD_SIZE": "2", "RANK": "1"}
    with start(leave_a_worker, str(tmp_path), environment=environment) as started:
        ended = started.wait()
    assert (ended.code, ended.outputs) == (1, ["the end"])
    assert ended.logs[0].startswith("[rank 1] Traceback")
    assert ended.logs[0].endswith("ZeroDivisionError: a bug\n\n")
    worker = int((tmp_path / "worker").read_text())
    wait_until(lambda: not is_alive(worker))


def test_a_terminal_shows_no_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    emit({"a": 1}, tmp_path / "a.json")
    assert capsys.readouterr().out == ""
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": 1}
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False)
    emit({"a": 1})
    assert json.loads(capsys.readouterr().out) == {"a": 1}


def test_the_result_is_one_json_object_and_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    emit({"a": 1}, tmp_path / "new" / "report.json")
    assert json.loads(capsys.readouterr().out) == {"a": 1}
    assert json.loads((tmp_path / "new" / "report.json").read_text()) == {"a": 1}
    with pytest.raises(StorageError):
        emit({"a": 1}, tmp_path)


def test_a_long_list_of_problems_is_cut() -> None:
    assert format_list(["one"]) == "one"
    assert format_list(["one", "two"]) == "2 problems\n  - one\n  - two"
    text = format_list([str(number) for number in range(1000)])
    assert text.startswith("1000 problems\n  - 0\n  - 1\n")
    assert text.endswith(f"  - {MAX_PROBLEMS - 1}\n  - ... and {1000 - MAX_PROBLEMS} more")
