"""Run the main function of a command: report errors, return the exit code, write the JSON result."""

import json
import multiprocessing
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from vqdist.foundation.atomic_files import reporting_storage_errors
from vqdist.foundation.errors import UserError, VqdistError
from vqdist.foundation.installation import describe_missing
from vqdist.foundation.launcher_environment import read_rank, read_world_size
from vqdist.foundation.progress import print_from_any_rank
from vqdist.foundation.threads import limit_spinning

MAX_PROBLEMS = 20  # in one message
NOTHING_WRITTEN = "nothing was written; run the same command again"  # by a command that writes its folder at the end

_reported: list[Exception] = []  # errors that are on stderr already


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

    With several ranks an error ends the process here: what torch and the interpreter do at an exit can wait for the
    other ranks, which wait for this one.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    several = read_world_size() > 1
    if "torch" not in sys.modules:
        limit_spinning()
    try:
        return main(arguments) or 0
    except KeyboardInterrupt as interrupt:
        print_from_any_rank(f"interrupted: {interrupt}" if str(interrupt) else "interrupted")
        return end_process(1) if several else 1
    except Exception as error:
        known = explain(error)
        if known is None and not several:
            raise
        report(error, verbose="--verbose" in arguments)
        code = 1 if known is None else known.exit_code
        return end_process(code) if several else code


@contextmanager
def explaining_interrupt(state: str) -> Iterator[None]:
    """Report after a Ctrl-C in this block what was kept and how to continue; also a decorator.

    Args:
        state: the text for `run_command` to print.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(state) from None


def end_process(code: int) -> NoReturn:
    """End this process after an error without waiting, neither for other ranks nor for loader workers."""
    for child in multiprocessing.active_children():
        child.kill()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # a full disk, or closed
            stream.flush()
    os._exit(code)


@contextmanager
def reporting_at_once() -> Iterator[None]:
    """Report an error of one of several ranks where it leaves this block, before the caller closes its files.

    That can take seconds, in which a launcher may end the process. `run_command` does not report the error again.
    """
    try:
        yield
    except Exception as error:
        if read_world_size() > 1:
            report(error, verbose=False)
        raise


def explain(error: Exception) -> VqdistError | None:
    """Return the error as one that a user can act on, or None if it is a bug."""
    if isinstance(error, VqdistError):
        return error
    if isinstance(error, PermissionError):
        return UserError.of(str(error.filename), error.strerror, "a path with permission to use it")
    if isinstance(error, ModuleNotFoundError) and (error.name or "vqdist").partition(".")[0] != "vqdist":
        return UserError.of(*describe_missing([str(error.name)]))
    return None


def report(error: Exception, *, verbose: bool) -> None:
    """Write an error to stderr, once: on every rank, or on one of those that raise the same error.

    Args:
        verbose: also write the traceback, which a bug always has.
    """
    known, rank = explain(error), read_rank()
    is_first_here = rank == 0 or os.environ.get("LOCAL_RANK") == "0"
    if known is not None and not {"rank": True, "machine": is_first_here, "all": rank == 0}[known.extent]:
        return
    prefix, is_new = f"[rank {rank}] " if rank else "", error not in _reported
    if verbose or (known is None and is_new):
        print_from_any_rank(prefix + "".join(traceback.format_exception(error)))
    if known is not None and is_new:
        lines = [str(problem) for problem in known.problems] if isinstance(known, UserError) else [str(known)]
        print_from_any_rank(f"{prefix}error: {format_list(lines)}")
    _reported.append(error)


def format_list(lines: Sequence[str]) -> str:
    """Return a single line unchanged, and several lines as a list with their number, of which 20 are shown."""
    if len(lines) == 1:
        return lines[0]
    shown = "".join(f"\n  - {line}" for line in lines[:MAX_PROBLEMS])
    others = f"\n  - ... and {len(lines) - MAX_PROBLEMS} more" if len(lines) > MAX_PROBLEMS else ""
    return f"{len(lines)} problems{shown}{others}"
