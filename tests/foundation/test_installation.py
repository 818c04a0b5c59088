"""A command in an interpreter without the packages of vqdist, or in one that is too old."""

import subprocess
import sys
from pathlib import Path

import pytest

from vqdist.foundation import installation
from vqdist.foundation.installation import check_installation, find_installation_problem, is_command

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("module", ["vqdist", "vqdist.train"])
def test_a_command_without_packages_says_to_activate_the_environment(module: str) -> None:
    command = [sys.executable, "-I", "-S", "-c", "import runpy, sys; sys.path.insert(0, sys.argv.pop(1))"]
    # -S leaves out site-packages; argv[0] is that of `python -m`.
    command[-1] += f"; sys.argv = ['-m', 'doctor']; runpy.run_module({module!r}, run_name='__main__')"
    ended = subprocess.run([*command, str(ROOT)], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    (message,) = ended.stderr.splitlines()
    assert message.startswith(f"error: {sys.executable}: found no package accelerate, numpy, pydantic")
    assert "activate it (`source .venv/bin/activate`" in message


def test_an_old_python_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(installation, "MIN_PYTHON", (99, 1))
    monkeypatch.setattr(sys, "argv", ["-m", "x"])
    with pytest.raises(SystemExit) as end:
        check_installation()
    assert end.value.code == 2
    version = ".".join(map(str, sys.version_info[:3]))
    expected = f"error: {sys.executable}: found Python {version}; expected 99.1 or newer, in the environment"
    assert capsys.readouterr().err.startswith(expected)


def test_the_message_is_printed_by_one_rank(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(installation, "MIN_PYTHON", (99, 1))
    monkeypatch.setattr(sys, "argv", ["-m"])
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SystemExit):
        check_installation()
    assert capsys.readouterr().err == ""


def test_this_interpreter_can_run_commands() -> None:
    assert find_installation_problem() is None


@pytest.mark.parametrize(
    ("argv", "expected"), [(["-m"], True), (["/env/bin/vqdist", "train"], True), (["notebook.py"], False), ([], False)]
)
def test_only_commands_are_checked(argv: list[str], expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", argv)
    assert is_command() is expected


def test_an_old_python_can_read_the_modules_up_to_the_message() -> None:
    """Syntax of Python 3.7: the modules that it imports before the message."""
    import ast

    for name in ("__init__.py", "foundation/__init__.py", "foundation/installation.py"):
        ast.parse((ROOT / "vqdist" / name).read_text(), feature_version=(3, 7))
