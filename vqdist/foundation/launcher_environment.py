"""The environment variables that a launcher sets for each process: rank, world size and others, read without torch."""

import os
from collections.abc import Mapping

from vqdist.foundation.errors import Problem

NUMBERS = (
    *("WORLD_SIZE", "RANK", "LOCAL_WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT"),
    *("SLURM_NTASKS", "SLURM_STEP_NUM_TASKS", "SLURM_JOB_NUM_NODES"),
)
RANK_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
# The number of processes of Open MPI, of MPICH, Intel MPI and Cray MPI, of MVAPICH2, and of IBM's jsrun.
MPI_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE", "JSM_NAMESPACE_SIZE")
# Other ways to train than DDP, which `accelerate launch` or its default configuration may choose.
OTHER_TRAINERS = ("DEEPSPEED", "FSDP", "MEGATRON_LM", "PARALLELISM_CONFIG")
_TRUE = {"1", "true", "yes", "y", "t", "on"}


def number_problems(environ: Mapping[str, str] = os.environ) -> list[Problem]:
    """Return the variables that must be whole numbers and are not."""
    values = {name: environ[name] for name in NUMBERS if name in environ}
    return [Problem(name, repr(text), "a whole number") for name, text in values.items() if not text.isdecimal()]


def world_problems(environ: Mapping[str, str] = os.environ) -> list[Problem]:
    """Return why each of several processes would train alone: a launcher started them without torch's variables."""
    tasks = int(environ.get("SLURM_STEP_NUM_TASKS", environ.get("SLURM_NTASKS", "1")))
    if "SLURM_PROCID" in environ and tasks > 1 and "WORLD_SIZE" not in environ:
        expected = "tasks started by launch/rank.sh, which sets it (slurm/train.sbatch uses it), or a single task"
        return [Problem("Slurm", f"{tasks} tasks and no WORLD_SIZE", expected)]
    if read_world_size(environ) > 1:
        return []
    sizes = {name: int(environ[name]) for name in MPI_SIZES if environ.get(name, "").isdecimal()}
    name = max(sizes, key=lambda known: sizes[known], default="")
    if sizes.get(name, 1) <= 1:
        return []
    alone = "WORLD_SIZE=1" if "WORLD_SIZE" in environ else "no WORLD_SIZE"
    expected = (
        "WORLD_SIZE, RANK, LOCAL_RANK, MASTER_ADDR and MASTER_PORT for each process. `accelerate launch` sets them; "
        "with mpirun, set them from the variables of MPI and start launch/rank.sh (its header has an example)"
    )
    return [Problem(name, f"{sizes[name]} processes of an MPI launcher, and {alone}", expected)]


def launcher_setting_problems(environ: Mapping[str, str] = os.environ) -> list[Problem]:
    """Return the settings of Accelerate's launcher that would change training behind the configuration of the run.

    They are options of `accelerate launch`, or come from its default configuration, perhaps that of another project.
    """
    names = [f"ACCELERATE_USE_{trainer}" for trainer in OTHER_TRAINERS]
    expected = {name: "false: vqdist trains with DDP" for name in names if environ.get(name, "").lower() in _TRUE}
    if environ.get("ACCELERATE_DYNAMO_BACKEND", "no").lower() not in {"no", ""}:
        expected["ACCELERATE_DYNAMO_BACKEND"] = "no; --train.compile true compiles the model"
    if environ.get("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1") not in {"1", ""}:
        expected["ACCELERATE_GRADIENT_ACCUMULATION_STEPS"] = "1; --data.micro_batch_size divides a batch"
    remedy = "Unset it, or pass `--config_file` with a file of launch/accelerate to `accelerate launch`"
    found = "a setting of `accelerate launch` or of its default configuration"
    return [Problem(name, f"{environ[name]}, {found}", f"{value}. {remedy}") for name, value in expected.items()]


def read_world_size(environ: Mapping[str, str] = os.environ) -> int:
    """Return the number of processes; 1 without a launcher."""
    text = environ.get("WORLD_SIZE", "")
    return int(text) if text.isdecimal() else 1


def read_rank(environ: Mapping[str, str] = os.environ) -> int:
    """Return the rank of this process; 0 without a launcher."""
    text = environ.get("RANK", "")
    return int(text) if text.isdecimal() and read_world_size(environ) > 1 else 0
