"""What the launcher tells a process of its world: numbers in the environment, read without torch."""

import os
from collections.abc import Mapping

from vqdist.foundation.errors import Problem

NUMBERS = (
    *("WORLD_SIZE", "RANK", "LOCAL_WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT"),
    *("SLURM_NTASKS", "SLURM_STEP_NUM_TASKS", "SLURM_JOB_NUM_NODES"),
)


def number_problems(environ: Mapping[str, str] = os.environ) -> list[Problem]:
    """Return the variables that should be whole numbers and are none."""
    told = {name: environ[name] for name in NUMBERS if name in environ}
    return [Problem(name, repr(text), "a whole number") for name, text in told.items() if not text.isdecimal()]


def read_world_size(environ: Mapping[str, str] = os.environ) -> int:
    """Return how many processes there are; 1 where no number is told."""
    told = environ.get("WORLD_SIZE", "")
    return int(told) if told.isdecimal() else 1


def read_rank(environ: Mapping[str, str] = os.environ) -> int:
    """Return which of the processes this is; 0 where it is alone, or where no number is told."""
    told = environ.get("RANK", "")
    return int(told) if told.isdecimal() and read_world_size(environ) > 1 else 0
