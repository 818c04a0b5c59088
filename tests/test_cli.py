"""`vqdist COMMAND`: the list of commands, and how commands are run."""

import importlib

import pytest

import vqdist
from vqdist import cli


def test_help_lists_the_commands_in_pipeline_order(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert listed == [
        "shard",
        "train",
        "encode",
        "sample",
        "complete",
        "score",
        "evaluate",
        "publish",
        "doctor",
        "bench",
    ]
    assert all(callable(importlib.import_module(f"vqdist.{name}").main) for name in listed)


def test_without_a_command_the_list_is_shown_as_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert "vqdist COMMAND [options]" in capsys.readouterr().out


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"vqdist {vqdist.__version__}\n"


def test_an_unknown_command_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["tarin", "--verbose"]) == 2
    assert "command: found 'tarin'; expected one of shard, train" in capsys.readouterr().err


def test_a_command_reports_its_own_problems(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["shard"]) == 2
    found = capsys.readouterr()
    assert not found.out
    assert all(name in found.err for name in ("SOURCE", "OUT"))


@pytest.mark.parametrize("name", ["shard", "encode", "sample", "complete", "score", "evaluate"])
def test_a_command_reports_after_ctrl_c_what_was_kept(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def press(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib.import_module(f"vqdist.{name}"), "parse_options", press)
    assert cli.main([name]) == 1
    written = "no report was written" if name == "evaluate" else "nothing was written"
    assert capsys.readouterr().err == f"interrupted: {written}; run the same command again\n"
