"""Errors that a user can act on, and the exit code of each."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self, TypeVar, get_args

MAX_EXAMPLES = 5  # in a list inside a message


T = TypeVar("T")
Extent = Literal["rank", "machine", "all"]


class VqdistError(Exception):
    """Base class of the errors that vqdist raises deliberately.

    Attributes:
        exit_code: of the process.
        extent: the ranks that raise the same error, which one of them reports: this rank alone, perhaps; those of this
            machine; or all.
    """

    exit_code = 1
    extent: Extent = "rank"


@dataclass(frozen=True)
class Problem:
    """One thing that the user can fix: where it is, what was found there and what was expected."""

    where: str
    found: str
    expected: str

    def __str__(self) -> str:
        return f"{self.where}: found {self.found}; expected {self.expected}"


class UserError(VqdistError):
    """Wrong usage, configuration or data, with every problem that was found, not only the first."""

    exit_code = 2

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))

    def __reduce__(self) -> tuple[type[Self], tuple[list[Problem]]]:
        return type(self), (self.problems,)  # by default an exception is pickled with its text as only argument

    @classmethod
    def of(cls, where: str, found: object, expected: object) -> Self:
        """Build the error for a single problem."""
        return cls([Problem(where, str(found), str(expected))])


def list_examples(items: Collection[object], *, separator: str = ", ") -> str:
    """Return at most five items of a list as text, and their number if there are more: `a, b, c, d, e, ... (9 in all)`.

    Args:
        items: in the order in which they are listed.
        separator: text between two items.
    """
    shown = separator.join(str(item) for item, _ in zip(items, range(MAX_EXAMPLES), strict=False))
    return f"{shown}{separator}... ({len(items):,} in all)" if len(items) > MAX_EXAMPLES else shown


def limit_problems(problems: Sequence[Problem], where: str, total: int | None = None) -> list[Problem]:
    """Return at most five problems of the same kind, and one that counts the others.

    Args:
        where: name of what all of them are in, for the problem that counts the others.
        total: number of problems, if `problems` are only the first ones.
    """
    others = (len(problems) if total is None else total) - MAX_EXAMPLES
    if others <= 0:
        return list(problems)
    shown = list(problems[:MAX_EXAMPLES])
    return [*shown, Problem(where, f"{others:,} more problem{'s' * (others > 1)} like these", shown[-1].expected)]


class ConfigError(UserError, ValueError):
    """The configuration, or an argument of a model in Python, is invalid: a key, its type, or a pair of keys."""

    extent = "machine"  # files and devices that it is checked with can differ between machines


def collect(*checks: Callable[[], Any], problems: Sequence[Problem] = ()) -> list[Any]:
    """Run checks and report the problems of all of them together.

    Args:
        checks: functions that may raise a UserError.
        problems: problems found before.
    Returns:
        The result of each check.
    Raises:
        ConfigError: there is any problem.
    """
    results, errors = [], []
    for check in checks:
        try:
            results.append(check())
        except UserError as error:
            errors.append(error)
    if errors or problems:
        raised = ConfigError([*problems, *(problem for error in errors for problem in error.problems)])
        extents = {error.extent for error in errors} or {raised.extent}
        raised.extent = next(extent for extent in get_args(Extent) if extent in extents)  # the smallest
        raise raised
    return results


def check_option(option: str, value: object, check: Callable[[], T]) -> T:
    """Run a check of what an option names, and put the option before the problems of its value and of files inside.

    Args:
        option: such as --data.
        value: of the option, as the problems spell it.
    Raises:
        UserError: as the check does.
    """
    try:
        return check()
    except UserError as error:
        problems = [_name_option(problem, option, str(value)) for problem in error.problems]
        named = type(error)(problems)
        named.extent = error.extent
        raise named from error


def _name_option(problem: Problem, option: str, value: str) -> Problem:
    if problem.where == value or problem.where.startswith((f"{value}:", f"{value},")):
        return replace(problem, where=f"{option} {problem.where}")
    return replace(problem, where=f"{option}: {problem.where}") if problem.where.startswith(f"{value}/") else problem


class DataError(UserError):
    """A source, a dataset or a file of it cannot be used."""


class DamagedDataError(DataError):
    """The bytes of a shard differ from its manifest or index; the problem names the shard and the sample."""


class CheckpointError(UserError):
    """A checkpoint or a saved model cannot be used: it is damaged, or has another architecture."""


class OwnershipError(VqdistError):
    """A newer process owns the run directory; this process must stop writing."""


class StorageError(VqdistError):
    """A file of the run cannot be written: full disk, exceeded quota, unmounted file system."""


class DivergedError(VqdistError):
    """The loss or the gradients are still not finite after going back to the last checkpoint."""


class StalledError(VqdistError):
    """A rank or a loader worker died or hangs."""


class FetchError(VqdistError):
    """A file of a remote dataset could not be downloaded after all retries."""


def find_worker_fault(error: RuntimeError) -> StalledError | None:
    """Return the error to raise instead of one by which torch reports a dead or hanging loader worker, else None.

    Torch raises it from a signal handler, wherever the main thread is.
    """
    if "DataLoader worker" in str(error) or "DataLoader timed out" in str(error):
        found = "a loader worker died, or returned nothing within run.timeout_s"
        return StalledError(f"data.num_workers: {found}: {error}")
    return None
