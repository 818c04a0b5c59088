"""Errors that a person can act on, and the exit code that each one means."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self


class VqdistError(Exception):
    """Any error that vqdist raises on purpose."""

    exit_code = 1


@dataclass(frozen=True)
class Problem:
    """One thing that the user can mend: where it is, what was found there and what was expected."""

    where: str
    found: str
    expected: str

    def __str__(self) -> str:
        return f"{self.where}: found {self.found}; expected {self.expected}"


class UserError(VqdistError):
    """Wrong usage, configuration or data. Carries every problem that was found, not only the first."""

    exit_code = 2

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))

    def __reduce__(self) -> tuple[type[Self], tuple[list[Problem]]]:
        return type(self), (self.problems,)  # an exception is pickled by its text alone otherwise

    @classmethod
    def of(cls, where: str, found: object, expected: object) -> Self:
        """Build the error for a single problem."""
        return cls([Problem(where, str(found), str(expected))])


class ConfigError(UserError, ValueError):
    """The configuration is wrong: a key, its type, or two keys that do not fit; also a model's arguments in Python."""


def collect(*checks: Callable[[], Any], problems: Sequence[Problem] = ()) -> list[Any]:
    """Return what each check returns.

    Args:
        problems: what was found before.
    Raises:
        ConfigError: every problem, those of all checks that raise a UserError too.
    """
    results, found = [], list(problems)
    for check in checks:
        try:
            results.append(check())
        except UserError as error:
            found += error.problems
    if found:
        raise ConfigError(found)
    return results


class DataError(UserError):
    """A source, a data set or a file of it is not what the work needs."""


class DamagedDataError(DataError):
    """A shard holds other bytes than its manifest and index say; the problem names shard and sample."""


class CheckpointError(UserError):
    """A checkpoint or a saved model cannot be used: damaged, or of another architecture."""


class OwnershipError(VqdistError):
    """A newer process owns the run directory; this process must stop writing."""


class StorageError(VqdistError):
    """A file of the run cannot be written: a full disk, a quota, a mount that is gone."""


class DivergedError(VqdistError):
    """Loss or gradients stayed non-finite after going back to the last checkpoint."""


class StalledError(VqdistError):
    """A rank or a loader worker died or hung."""


class FetchError(VqdistError):
    """A file of a remote data set did not come, in spite of all tries."""
