"""What every command shares: its parser, its one line of JSON, and the way from an error to an exit code."""

import argparse
import json
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from vqdist.errors import ConfigError, UserError, VqdistError
from vqdist.progress import write_line
from vqdist.world import read_rank


class Parser(argparse.ArgumentParser):
    """An argument parser whose help gives type, unit and default of each option."""

    def __init__(self, module: str, description: str, **kwargs: Any) -> None:
        super().__init__(
            prog=f"python -m {module}",
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            **kwargs,
        )
        self.add_argument("--verbose", action="store_true", help="show the traceback of an error")

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
        name = getattr(kind, "__name__", "value")
        facts = [name, *([unit] if unit else []), "required" if required else f"default: {show(default)}"]
        text = f"{help} ({', '.join(facts)})".replace("%", "%%")
        metavar = None if "choices" in kwargs else name.upper()
        self.add_argument(flag, type=kind, default=default, required=required, help=text, metavar=metavar, **kwargs)

    def error(self, message: str) -> NoReturn:
        """End with exit code 2, as every wrong usage does."""
        self.print_usage(sys.stderr)
        self.exit(2, f"{self.prog}: error: {message}\n")


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
        raise argparse.ArgumentTypeError(f"found {text!r}, expected true or false")
    return text == "true"


def optional(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return a parser of `null` or a value of the kind."""

    def parse(text: str) -> Any:
        return None if text == "null" else kind(text)

    parse.__name__ = getattr(kind, "__name__", "value")
    return parse


def say(message: str) -> None:
    """Write one line for a person to stderr, from any rank."""
    write_line(message)


def emit(result: dict[str, Any]) -> None:
    """Write the command's result to stdout: one JSON object. Call it on rank 0 alone."""
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()


def run_command(main: Callable[[Sequence[str]], int | None], argv: Sequence[str] | None = None) -> int:
    """Run a command's main and return its exit code.

    Errors of vqdist become a message on stderr (with a traceback behind `--verbose`) and the exit
    code that their class carries; any other exception is a bug and shows its traceback.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return main(arguments) or 0
    except VqdistError as error:
        report(error, verbose="--verbose" in arguments)
        return error.exit_code
    except KeyboardInterrupt:
        say("interrupted")
        return 1


def report(error: VqdistError, *, verbose: bool) -> None:
    """Write an error for the user; what all ranks find alike is said by rank 0 alone."""
    rank = read_rank()
    if isinstance(error, ConfigError) and rank != 0:
        return
    prefix = f"[rank {rank}] " if rank else ""
    if verbose:
        say(prefix + traceback.format_exc())
    if isinstance(error, UserError) and len(error.problems) > 1:
        lines = "".join(f"\n  - {problem}" for problem in error.problems)
        say(f"{prefix}error: {len(error.problems)} problems{lines}")
    else:
        say(f"{prefix}error: {error}")
