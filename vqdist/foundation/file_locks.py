"""Locks on open files that the system releases when their process ends, on Linux and macOS."""

from typing import IO, Any

from vqdist.foundation.errors import UserError


def lock_file(file: IO[Any], *, shared: bool = False, wait: bool = True) -> None:
    """Lock an open file until it is closed.

    Args:
        shared: several processes may hold the lock.
        wait: wait for the lock.
    Raises:
        BlockingIOError: another process holds the lock, and `wait` is False.
        UserError: the system has no such locks.
    """
    try:
        import fcntl
    except ModuleNotFoundError as error:
        raise UserError.of("system", "no file locks", "Linux or macOS; on Windows use WSL") from error
    fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
