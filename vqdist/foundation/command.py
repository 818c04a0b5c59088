"""What every command shares: its parser, its one line of JSON, and the way from an error to an exit code."""

import argparse
import json
import math
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from vqdist.foundation.atomic_files import reporting_storage_errors
from vqdist.foundation.errors import ConfigError, Problem, UserError, VqdistError
from vqdist.foundation.launcher_environment import read_rank
from vqdist.foundation.progress import write_line


class WrongValue(argparse.ArgumentTypeError):
    """A word that is no value of its option."""

    def __init__(self, found: str, expected: str) -> None:
        super().__init__(f"found {found}; expected {expected}")
        self.found, self.expected = found, expected


class Parser(argparse.ArgumentParser):
    """An argument parser whose help gives type, unit and default of each option.

    Wrong values go into `problems` of the parsed arguments, and their options have the default, so that a command
    can look for what else is wrong before it tells all of it.
    """

    def __init__(self, module: str, description: str, **kwargs: Any) -> None:
        super().__init__(
            prog=f"python -m {module}",
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            **kwargs,
        )
        self._problems: list[Problem] = []
        self.set_defaults(problems=self._problems)
        self.switch("--verbose", help="show the traceback of an error")

    def switch(self, flag: str, *, help: str) -> None:
        """Add an option that takes no value."""
        self.add_argument(flag, action="store_true", help=f"{help} (switch, default: false)")

    def place(self, name: str, kind: Callable[[str], Any], *, help: str) -> None:
        """Add a value that is known by its place and must be there."""
        self.add_argument(name.lower(), type=kind, metavar=name, help=f"{help} ({kind.__name__}, required)")

    def option(
        self,
        flag: str,
        kind: Callable[[str], Any],
        *,
        help: str,
        default: Any = None,
        unit: str = "",
        required: bool = False,
        **kwargs: Any,
    ) -> None:
        """Add an option whose help line ends in its type, unit and default."""
        name = kind.__name__
        facts = [name, *([unit] if unit else []), "required" if required else f"default: {show(default)}"]
        text = f"{help} ({', '.join(facts)})".replace("%", "%%")
        metavar = None if "choices" in kwargs else name.upper()
        # Nothing can stand in for what is required, or for one of several numbers: argparse ends at once there.
        parse = kind if required or "nargs" in kwargs else self._note_problems(flag, kind, default)
        self.add_argument(flag, type=parse, default=default, required=required, help=text, metavar=metavar, **kwargs)

    def _note_problems(self, flag: str, kind: Callable[[str], Any], default: Any) -> Callable[[str], Any]:
        def parse(text: str) -> Any:
            try:
                return kind(text)
            except WrongValue as error:
                self._problems.append(Problem(flag, error.found, error.expected))
            except ValueError:
                self._problems.append(Problem(flag, repr(text), kind.__name__))
            return default

        return parse

    def error(self, message: str) -> NoReturn:
        """End with exit code 2, as every wrong usage does."""
        if read_rank() == 0:
            self.print_usage(sys.stderr)
            print_from_any_rank(f"{self.prog}: error: {join([*map(str, self._problems), message])}")
        self.exit(2)


def show(value: Any) -> str:
    """Return a value as the command line spells it: none is `null`, booleans are `true` and `false`."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return " ".join(show(item) for item in value) or "[]"
    return str(value)


def boolean(text: str) -> bool:
    """Parse `true` or `false`."""
    if text not in {"true", "false"}:
        raise WrongValue(repr(text), "true or false")
    return text == "true"


def text(word: str) -> str:
    """Parse a word that is not empty."""
    if not word:
        raise WrongValue("nothing", "text")
    return word


def path(word: str) -> Path:
    """Parse a path; the empty one is refused, which would mean the working directory."""
    return Path(text(word))


def within(kind: Callable[[str], Any], low: float, high: float = math.inf) -> Callable[[str], Any]:
    """Return a parser of a number from low to high."""

    def parse(text: str) -> Any:
        value = kind(text)
        if not low <= value <= high:
            raise WrongValue(str(value), f"at least {low}" if high == math.inf else f"{low} to {high}")
        return value

    parse.__name__ = kind.__name__
    return parse


def optional(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return a parser of `null` or a value of the kind."""

    def parse(text: str) -> Any:
        return None if text == "null" else kind(text)

    parse.__name__ = kind.__name__
    return parse


def print_from_any_rank(message: str) -> None:
    """Write one line for a person to stderr, from any rank."""
    write_line(message)


def emit(result: dict[str, Any], out: Path | None = None) -> None:
    """Write the command's result to stdout, one JSON object, and to a file where one is asked for. On rank 0 alone.

    Raises:
        StorageError: the file cannot be written; stdout has the result.
    """
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()
    if out is not None:
        with reporting_storage_errors(out):
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(json.dumps(result, indent=2) + "\n")


def join(lines: Sequence[str]) -> str:
    """Return one line as it is, and several as a list that says how many there are."""
    return lines[0] if len(lines) == 1 else f"{len(lines)} problems" + "".join(f"\n  - {line}" for line in lines)


def run_command(main: Callable[[Sequence[str]], int | None], argv: Sequence[str] | None = None) -> int:
    """Run a command's main and return its exit code.

    Errors of vqdist become a message on stderr (with a traceback behind `--verbose`) and the exit
    code that their class carries, and so does a path that the user may not use; any other exception
    is a bug and shows its traceback.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return main(arguments) or 0
    except VqdistError as error:
        report(error, verbose="--verbose" in arguments)
        return error.exit_code
    except PermissionError as error:
        refused = UserError.of(str(error.filename), error.strerror, "a path that you may use")
        report(refused, verbose="--verbose" in arguments)
        return refused.exit_code
    except KeyboardInterrupt:
        print_from_any_rank("interrupted")
        return 1


def report(error: VqdistError, *, verbose: bool) -> None:
    """Write an error for the user; what all ranks find alike is said by rank 0 alone."""
    rank = read_rank()
    if isinstance(error, ConfigError) and rank != 0:
        return
    prefix = f"[rank {rank}] " if rank else ""
    if verbose:
        print_from_any_rank(prefix + traceback.format_exc())
    lines = [str(problem) for problem in error.problems] if isinstance(error, UserError) else [str(error)]
    print_from_any_rank(f"{prefix}error: {join(lines)}")
