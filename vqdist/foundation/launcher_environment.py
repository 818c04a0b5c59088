"""The environment variables that a launcher sets for each process: rank, world size and others, read without torch."""

import os
from collections.abc import Mapping

from vqdist.foundation.errors import Problem

NUMBERS = (
    *("WORLD_SIZE", "RANK", "LOCAL_WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT"),
    *("SLURM_NTASKS", "SLURM_STEP_NUM_TASKS", "SLURM_JOB_NUM_NODES"),
)


def number_problems(environ: Mapping[str, str] = os.environ) -> list[Problem]:
    """Return the variables that must be whole numbers and are not."""
    values = {name: environ[name] for name in NUMBERS if name in environ}
    return [Problem(name, repr(text), "a whole number") for name, text in values.items() if not text.isdecimal()]


def read_world_size(environ: Mapping[str, str] = os.environ) -> int:
    """Return the number of processes; 1 without a launcher."""
    text = environ.get("WORLD_SIZE", "")
    return int(text) if text.isdecimal() else 1


def read_rank(environ: Mapping[str, str] = os.environ) -> int:
    """Return the rank of this process; 0 without a launcher."""
    text = environ.get("RANK", "")
    return int(text) if text.isdecimal() and read_world_size(environ) > 1 else 0
