"""The way from words to values, and from an error to an exit code."""

from pathlib import Path

import pytest

from vqdist.foundation.command import Parser, boolean, optional, path, run_command, within


def test_every_wrong_value_is_noted_and_has_its_default() -> None:
    parser = Parser("x", "")
    parser.option("--num", within(int, 1, 9), default=3, help="")
    parser.option("--rate", within(float, 0), default=1.5, help="")
    parser.option("--small", boolean, default=False, help="")
    parser.option("--out", optional(path), help="")
    good = parser.parse_args(["--num", "9", "--rate=0", "--small", "true", "--out", "null"])
    assert (good.num, good.rate, good.small, good.out, good.problems) == (9, 0, True, None, [])
    assert parser.parse_args(["--out", "a/b"]).out == Path("a/b")
    bad = parser.parse_args(["--num", "ten", "--rate", "nan", "--small", "yes", "--out="])
    assert (bad.num, bad.rate, bad.small, bad.out) == (3, 1.5, False, None)
    assert [str(problem) for problem in bad.problems] == [
        "--num: found 'ten'; expected int",
        "--rate: found nan; expected at least 0",
        "--small: found 'yes'; expected true or false",
        "--out: found nothing; expected text",
    ]


def test_what_argparse_finds_comes_with_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    parser = Parser("x", "")
    parser.option("--run", path, required=True, help="")
    parser.option("--num", within(int, 1), help="")
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args(["--num", "0"])
    told = capsys.readouterr().err
    assert "2 problems\n  - --num: found 0; expected at least 1\n" in told
    assert "required: --run" in told


def test_a_path_that_may_not_be_used_is_no_bug(capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(_: object) -> int:
        raise PermissionError(13, "Permission denied", "runs/a")

    assert run_command(refuse, []) == 2
    assert capsys.readouterr().err == "error: runs/a: found Permission denied; expected a path that you may use\n"
