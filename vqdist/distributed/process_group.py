"""The processes of a run: how many there are, which one this is, and what they say to each other."""

import os
import socket
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from vqdist.foundation.errors import ConfigError, Problem, StalledError, find_worker_fault
from vqdist.foundation.launcher_environment import number_problems, read_world_size


@contextmanager
def name_faults() -> Iterator[None]:
    """Say in our words what torch raises where another rank, or a loader worker, has died or hung.

    Raises:
        StalledError: instead of it.
    """
    try:
        yield
    except RuntimeError as error:
        if (fault := find_worker_fault(error)) is not None:
            raise fault from error
        if isinstance(error, dist.DistError) or "/gloo/" in str(error):
            reason = str(error).split("] ", 1)[-1].split(". ")[0]  # gloo puts the place in its source before it
            raise StalledError(f"another rank died, or was silent for run.timeout_s: {reason}") from error
        raise


@dataclass(frozen=True)
class Ranks:
    """This process among its peers. Every method but the attributes is collective.

    All of them raise StalledError if another rank dies, or does not join within the timeout of `start_ranks`.
    """

    rank: int
    world_size: int
    local_rank: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @name_faults()
    def all_reduce(self, tensor: torch.Tensor) -> torch.Tensor:
        """Sum a tensor over all ranks, in place. Collective: every rank, same shape and type."""
        if self.world_size > 1:
            dist.all_reduce(tensor)
        return tensor

    def any(self, *flags: bool) -> list[bool]:
        """Return for each flag whether it is set on some rank. Collective."""
        if self.world_size == 1:
            return list(flags)
        return [count > 0 for count in self.all_reduce(torch.tensor(flags, device=self.device).int()).tolist()]

    @name_faults()
    def broadcast(self, tensor: torch.Tensor) -> torch.Tensor:
        """Give every rank the tensor of rank 0, in place. Collective."""
        if self.world_size > 1:
            dist.broadcast(tensor, src=0)
        return tensor

    @name_faults()
    def broadcast_object(self, value: Any) -> Any:
        """Return rank 0's value on every rank. Collective."""
        if self.world_size == 1:
            return value
        holder = [value]
        dist.broadcast_object_list(holder, src=0, device=self.device if self.device.type == "cuda" else None)
        return holder[0]

    @name_faults()
    def gather_objects(self, value: Any) -> list[Any]:
        """Return the values of all ranks, in rank order, on every rank. Collective."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    @name_faults()
    def barrier(self) -> None:
        """Wait for all ranks. Collective."""
        if self.world_size > 1:
            dist.barrier(device_ids=[self.local_rank] if self.device.type == "cuda" else None)


def wants_cpu(device: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Tell whether the processes are to run on the CPU: by the setting, Accelerate's variable, or GPUs hidden by -1."""
    # -1 is what a configuration of `accelerate launch` can say for several CPU ranks (launch/accelerate).
    hidden = environ.get("CUDA_VISIBLE_DEVICES", "").startswith("-1")
    return device == "cpu" or hidden or environ.get("ACCELERATE_USE_CPU", "").lower() in {"1", "true", "yes"}


def launch_problems(device: str, environ: Mapping[str, str] = os.environ) -> list[Problem]:
    """Return what is wrong with the way the processes were started. Imports nothing, starts nothing."""
    if problems := number_problems(environ):
        return problems
    world_size = read_world_size(environ)
    tasks = int(environ.get("SLURM_STEP_NUM_TASKS", environ.get("SLURM_NTASKS", "1")))
    if "SLURM_PROCID" in environ and tasks > 1 and "WORLD_SIZE" not in environ:
        problems.append(
            Problem(
                "Slurm",
                f"{tasks} tasks and no WORLD_SIZE",
                "a world: start the tasks through launch/rank.sh (slurm/train.sbatch does), or ask for one task",
            )
        )
    missing = [name for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in environ]
    if world_size > 1 and missing:
        problems.append(
            Problem("WORLD_SIZE", f"{world_size} without {', '.join(missing)}", "a launcher that sets them")
        )
    elif world_size > 1 and not wants_cpu(device, environ) and not torch.cuda.is_available():
        problems.append(
            Problem(
                "WORLD_SIZE",
                f"{world_size}, but Accelerate would see 1 process: this machine has no GPU",
                "ACCELERATE_USE_CPU=true in the environment (or --run.device cpu)",
            )
        )
    elif world_size > 1 and not _resolves(environ["MASTER_ADDR"]):
        problems.append(Problem("MASTER_ADDR", f"{environ['MASTER_ADDR']!r}, which no resolver knows", "a host"))
    return problems


def device_problems(device: str, environ: Mapping[str, str] = os.environ) -> list[Problem]:
    """Return what is wrong with the asked device on this machine."""
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if not there.get(device, True):
        return [Problem("run.device", f"{device}, which this machine does not have", "auto, cpu or what is there")]
    if device == "mps" and read_world_size(environ) > 1:
        return [Problem("run.device", "mps with several processes", "one process: mps has no collectives")]
    return []


@name_faults()
def start_ranks(device: str = "auto", *, timeout_s: float = 1800.0) -> Ranks:
    """Join the process group that the launcher prepared, or stand alone.

    Args:
        device: auto (cuda, else mps, else cpu), cpu, cuda or mps.
        timeout_s: after this many seconds a collective that a peer does not join is an error.
    Raises:
        ConfigError: the launcher's world is not the one that Accelerate sees.
        StalledError: a rank did not come within the timeout.
    Collective: all ranks of the world.
    """
    problems = launch_problems(device) + device_problems(device)
    if problems:
        raise ConfigError(problems)
    from accelerate import PartialState

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="OMP_NUM_THREADS")
        state = PartialState(cpu=wants_cpu(device), timeout=timedelta(seconds=timeout_s))
    world_size = read_world_size()
    if state.num_processes != world_size:
        raise ConfigError.of("WORLD_SIZE", world_size, f"{state.num_processes}, the processes that Accelerate sees")
    local_rank = max(state.local_process_index, 0)
    return Ranks(state.process_index, state.num_processes, local_rank, state.device)


def end_ranks() -> None:
    """Leave the process group, so that nothing of it outlives the command."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def _resolves(host: str) -> bool:
    try:
        socket.getaddrinfo(host, None)
    except socket.gaierror:
        return False
    return True
