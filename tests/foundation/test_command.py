"""Running a command: from an error to a message and an exit code."""

import json
import sys
from pathlib import Path

import pytest

from vqdist.foundation.command import MAX_PROBLEMS, emit, format_list, run_command
from vqdist.foundation.errors import ConfigError, DataError, Problem, StalledError, StorageError


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


def test_rank_0_alone_reports_what_all_ranks_find(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert run_command(fail_with(ConfigError.of("a", "b", "c")), []) == 2
    assert capsys.readouterr().err == ""
    assert run_command(fail_with(DataError.of("a", "b", "c")), []) == 2
    assert capsys.readouterr().err == "[rank 1] error: a: found b; expected c\n"


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
