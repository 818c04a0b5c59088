"""The command line: words to typed options and configuration keys, and the help that lists them."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest

from vqdist import cli, complete, score
from vqdist.config.command_line import CommandLine, Options, build_help, describe_keys, parse_options
from vqdist.config.command_options import TrainOptions
from vqdist.config.section import Bool, FilePath, Int, Real, key
from vqdist.config.slice_options import CompleteOptions, ScoreOptions
from vqdist.foundation.help_text import MAX_COLUMNS


class Some(Options):
    out: FilePath | None = key(None, "where")
    num: Int = key(3, "how many", unit="slices", ge=1, le=9)
    rate: Real = key(1.5, "how fast", ge=0)
    small: Bool = key(False, "tiny sizes")
    split: tuple[str, str, str] = key(("0.8", "0.1", "0.1"), "three shares")
    beside: tuple[FilePath, ...] = key((), "more runs")


class Required(Options):
    source: str = key(..., "what to read", positional="SOURCE")
    parts: tuple[str, ...] = key((), "which parts", positional="PART")
    run: FilePath = key(..., "the run")
    num: Int = key(1, "how many", ge=1)


def parse(*words: str, kind: type[Options] = Some, takes_config: bool = False) -> CommandLine[Options]:
    return parse_options("some", "", kind, words, takes_config=takes_config)


def test_words_become_typed_values() -> None:
    parsed = parse("--num", "9", "--rate=0", "--small", "true", "--out", "null", "--split", "1", "0", "0")
    assert parsed.problems == []
    found = parsed.options
    assert (found.num, found.rate, found.small, found.out, found.split) == (9, 0, True, None, ("1", "0", "0"))
    assert parse("--out", "a/b").options.out == Path("a/b")
    assert parse("--beside", "a", "b", "--small").options.beside == (Path("a"), Path("b"))
    assert parse("--beside", "a", "--small", "--beside=b").options.beside == (Path("a"), Path("b"))
    twice = parse("--split", "1", "0", "0", "--split", "0", "0", "1")
    assert twice.options.split == ("0", "0", "1")


@pytest.mark.parametrize(("words", "small"), [(["--small"], True), (["--small", "false"], False), ([], False)])
def test_a_boolean_is_a_switch_or_takes_a_value(words: list[str], small: bool) -> None:
    assert parse(*words, "--num", "2").options.small is small


def test_a_boolean_may_have_the_python_spelling() -> None:
    assert parse("--small", "True").options.small is True
    assert parse("--small", "False", "--num", "2").options.small is False


@pytest.mark.parametrize(
    ("given", "found"), [("--split 0.8,0.2", "0.8,0.2"), ("--split=1", "1"), ("--split 1 0", "1 0")]
)
def test_a_list_of_the_wrong_length_is_shown_as_given(given: str, found: str) -> None:
    (problem,) = parse(*given.split(" ")).problems
    expected = "3 values separated by spaces, such as 0.8 0.1 0.1"
    assert str(problem) == f"--split: found '{found}'; expected {expected}"


def test_every_wrong_value_is_reported_and_has_its_default() -> None:
    bad = parse("--num", "ten", "--rate", "nan", "--small=yes", "--out=", "--nmu", "3", "word")
    assert (bad.options.num, bad.options.rate, bad.options.small, bad.options.out) == (3, 1.5, False, None)
    assert sorted(map(str, bad.problems)) == [
        "--nmu: found an unknown option; expected an option that --help lists; did you mean --num?",
        "--num: found 'ten'; expected int",
        "--out: found nothing; expected text",
        "--rate: found nan; expected a finite number",
        "--small: found 'yes'; expected true or false",
        "command line: found 'word'; expected an option such as --name VALUE",
    ]
    assert [str(problem) for problem in parse("--num", "10").problems] == ["--num: found 10; expected at most 9"]
    assert [str(problem) for problem in parse("--num").problems] == ["--num: found no value; expected a value after it"]


@pytest.mark.parametrize(
    ("word", "expected"),
    [("vqvae_oasis", "--config vqvae_oasis"), ("my.yaml", "--config my.yaml"), ("oasis", "--section.key VALUE")],
)
def test_a_configuration_without_its_flag_is_recognised(word: str, expected: str) -> None:
    (problem,) = parse_options("train", "", TrainOptions, [word], takes_config=True).problems
    assert str(problem) == f"command line: found '{word}'; expected {expected}"


def test_a_missing_required_option_comes_with_the_rest() -> None:
    parsed = parse("--num", "0", kind=Required)
    assert parsed.options is None
    assert {problem.where for problem in parsed.problems} == {"SOURCE", "--run", "--num"}
    parsed = parse("here", "a", "b", "--run", "r", kind=Required)
    assert (parsed.options.source, parsed.options.parts, parsed.options.run) == ("here", ("a", "b"), Path("r"))


def test_configuration_keys_are_collected_in_order() -> None:
    parsed = parse("--optim.lr", "1", "--task=vqvae", "--num", "2", "--optim.lr=3", takes_config=True)
    assert parsed.keys == [("optim.lr", "1"), ("task", "vqvae"), ("optim.lr", "3")]
    assert parsed.options.num == 2
    assert parse("--optim.lr", takes_config=True).problems[0].found == "no value"
    assert parse("--optim.lr", "1").problems[0].found == "an unknown option"


def test_help_lists_every_option_with_type_unit_and_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parse("--help")
    assert not end.value.code
    text = " ".join(capsys.readouterr().out.split())
    assert "--num how many (int, slices, default: 3)" in text
    assert "--split three shares (list, default: 0.8 0.1 0.1)" in text
    text = build_help("some", "What it does.", Required, takes_config=True)
    usage = "usage: vqdist some SOURCE [PART ...] --run PATH [options] [--section.key VALUE ...] What it does."
    assert " ".join(text.split()).startswith(usage)
    assert "SOURCE\n        what to read (text, required)" in text
    assert "--optim.lr\n        peak learning rate (float, default: 0.001)" in text


@pytest.mark.parametrize("columns", [80, 200])
@pytest.mark.parametrize("command", sorted(cli.COMMANDS))
def test_help_fits_the_terminal(
    command: str, columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    with pytest.raises(SystemExit):
        importlib.import_module(f"vqdist.{command}").main(["--help"])
    lines = capsys.readouterr().out.splitlines()
    longest = max(lines, key=len)
    assert len(longest) <= min(columns, MAX_COLUMNS), longest
    assert len(longest) > min(columns, MAX_COLUMNS) - 15, "the width is used"


def test_the_list_of_commands_fits_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(len, cli.build_help().splitlines())) <= 80


def test_the_table_of_keys_has_a_row_for_every_key() -> None:
    table = describe_keys()
    assert "| `model.downsample` | 4 \\| 8 \\| 16 | `8` |" in table
    assert "| **with --task pixelcnn** | | | |" in table


@pytest.mark.parametrize(("module", "kind"), [(complete, CompleteOptions), (score, ScoreOptions)])
def test_the_example_in_the_help_is_valid(module: ModuleType, kind: type[Options]) -> None:
    (line,) = (line for line in module.DESCRIPTION.splitlines() if line.startswith("  vqdist "))
    _, command, *words = line.split()
    parsed = parse_options(command, "", kind, words)
    assert command == module.__name__.rpartition(".")[2]
    assert (parsed.problems, parsed.options is None) == ([], False)
