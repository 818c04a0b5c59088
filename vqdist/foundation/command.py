"""Run the main function of a command: report errors, return the exit code, write the JSON result."""

import json
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vqdist.foundation.atomic_files import reporting_storage_errors
from vqdist.foundation.errors import ConfigError, UserError, VqdistError
from vqdist.foundation.installation import describe_missing
from vqdist.foundation.launcher_environment import read_rank
from vqdist.foundation.progress import print_from_any_rank
from vqdist.foundation.threads import limit_spinning

MAX_PROBLEMS = 20  # in one message


def emit(result: dict[str, Any], out: Path | None = None) -> None:
    """Write the JSON result of a command to stdout and, if `out` is given, to a file. Call on rank 0 only.

    On a terminal nothing is written to stdout: the same facts are in the messages on stderr, in readable form.

    Raises:
        StorageError: the file cannot be written; stdout has the result.
    """
    if not sys.stdout.isatty():
        sys.stdout.write(json.dumps(result) + "\n")
        sys.stdout.flush()
    if out is not None:
        with reporting_storage_errors(out):
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(json.dumps(result, indent=2) + "\n")


def run_command(main: Callable[[Sequence[str]], int | None], argv: Sequence[str] | None = None) -> int:
    """Run the main function of a command and return the exit code.

    A VqdistError is reported on stderr, with a traceback if `--verbose` is given, and becomes the exit code of its
    class. So does a path without permission, or a package that is not installed. Any other exception is a bug and keeps
    its traceback.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    verbose = "--verbose" in arguments
    if "torch" not in sys.modules:
        limit_spinning()
    try:
        return main(arguments) or 0
    except VqdistError as error:
        report(error, verbose=verbose)
        return error.exit_code
    except PermissionError as error:
        refused = UserError.of(str(error.filename), error.strerror, "a path with permission to use it")
        report(refused, verbose=verbose)
        return refused.exit_code
    except ModuleNotFoundError as error:
        if (error.name or "vqdist").partition(".")[0] == "vqdist":
            raise  # a bug
        report(UserError.of(*describe_missing([str(error.name)])), verbose=verbose)
        return UserError.exit_code
    except KeyboardInterrupt:
        print_from_any_rank("interrupted")
        return 1


def report(error: VqdistError, *, verbose: bool) -> None:
    """Write an error to stderr; a ConfigError is the same on all ranks and reported by rank 0 only."""
    rank = read_rank()
    if isinstance(error, ConfigError) and rank != 0:
        return
    prefix = f"[rank {rank}] " if rank else ""
    if verbose:
        print_from_any_rank(prefix + traceback.format_exc())
    lines = [str(problem) for problem in error.problems] if isinstance(error, UserError) else [str(error)]
    print_from_any_rank(f"{prefix}error: {format_list(lines)}")


def format_list(lines: Sequence[str]) -> str:
    """Return a single line unchanged, and several lines as a list with their number, of which 20 are shown."""
    if len(lines) == 1:
        return lines[0]
    shown = "".join(f"\n  - {line}" for line in lines[:MAX_PROBLEMS])
    others = f"\n  - ... and {len(lines) - MAX_PROBLEMS} more" if len(lines) > MAX_PROBLEMS else ""
    return f"{len(lines)} problems{shown}{others}"
