"""The process group of a run: joining and leaving it, and its collective operations."""

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

from vqdist.distributed.gpu_checks import driver_problems, find_gpu_number, gpu_count_problems, hides_gpus
from vqdist.distributed.wait_notice import announcing_wait, describe_meeting
from vqdist.foundation.devices import set_arithmetic
from vqdist.foundation.errors import ConfigError, Problem, StalledError, find_worker_fault
from vqdist.foundation.launcher_environment import (
    RANK_VARIABLES,
    launcher_setting_problems,
    number_problems,
    read_world_size,
    world_problems,
)

# Tensors of a GPU are reduced by NCCL. Flags and objects are exchanged by gloo, which reports a rank that has died at
# once; NCCL only queues an operation, and the host would wait for it.
GPU_BACKENDS = "cuda:nccl,cpu:gloo"
# NCCL ends the process at its timeout. By then gloo's has passed, and the error is reported.
NCCL_MARGIN_S = 120.0


@contextmanager
def raising_stalled_error() -> Iterator[None]:
    """Convert the errors that torch raises when another rank, or a loader worker, dies or stops responding.

    Raises:
        StalledError: in place of these errors. All other errors pass through.
        ConfigError: NCCL found that two ranks use the same GPU.
    """
    try:
        yield
    except RuntimeError as error:
        if (fault := find_worker_fault(error)) is not None:
            raise fault from error
        if "Duplicate GPU" in str(error):
            found = f"{os.environ.get('CUDA_VISIBLE_DEVICES', 'nothing')}, and two ranks on one GPU"
            raise ConfigError.of("CUDA_VISIBLE_DEVICES", found, "a GPU for each rank") from error
        if isinstance(error, dist.DistError) or "/gloo/" in str(error):
            reason = str(error).split("] ", 1)[-1].split(". ")[0]  # gloo prefixes its source location
            raise StalledError(f"another rank died or did not respond within run.timeout_s: {reason}") from error
        raise


@dataclass(frozen=True)
class Ranks:
    """The rank of this process and the collective operations of its process group.

    Every method is collective: all ranks must call it. It raises StalledError if another rank dies or does not call it
    within the timeout of `init_process_group`. With a tensor on a GPU it only queues the operation; all others wait.

    Attributes:
        local_rank: number of this rank among those of its machine.
        device: on a GPU its index is that among the GPUs that this process sees, which need not be `local_rank`.
    """

    rank: int
    world_size: int
    local_rank: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @raising_stalled_error()
    def all_reduce(self, tensor: torch.Tensor) -> torch.Tensor:
        """Sum a tensor over all ranks, in place. All ranks pass the same shape and dtype."""
        if self.world_size > 1:
            dist.all_reduce(tensor)
        return tensor

    def any(self, *flags: bool) -> list[bool]:
        """Return for each flag whether it is true on at least one rank."""
        if self.world_size == 1:
            return list(flags)
        return [count > 0 for count in self.all_reduce(torch.tensor(flags).int()).tolist()]

    @raising_stalled_error()
    def broadcast(self, tensor: torch.Tensor) -> torch.Tensor:
        """Copy the tensor of rank 0 to all ranks, in place."""
        if self.world_size > 1:
            dist.broadcast(tensor, src=0)
        return tensor

    @raising_stalled_error()
    def broadcast_object(self, value: Any) -> Any:
        """Return the value of rank 0 on all ranks."""
        if self.world_size == 1:
            return value
        holder = [value]
        dist.broadcast_object_list(holder, src=0)
        return holder[0]

    @raising_stalled_error()
    def gather_objects(self, value: Any) -> list[Any]:
        """Return the values of all ranks, in rank order, on all ranks."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    @raising_stalled_error()
    def barrier(self) -> None:
        """Wait for all ranks, not for their devices."""
        if self.world_size > 1:
            self.all_reduce(torch.zeros(1))


def wants_cpu(device: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Tell whether the CPU was requested: by run.device, ACCELERATE_USE_CPU, or CUDA_VISIBLE_DEVICES without a GPU."""
    # A configuration file of `accelerate launch` can request several CPU ranks only by -1 (launch/accelerate).
    return device == "cpu" or hides_gpus(environ) or _launcher_wants_cpu(environ)


def launch_problems(device: str, environ: Mapping[str, str] = os.environ) -> list[Problem]:
    """Return what is wrong with the environment variables that the launcher set. No process group is initialized."""
    if problems := number_problems(environ):
        return problems
    if problems := launcher_setting_problems(environ) + world_problems(environ):
        return problems
    world_size = read_world_size(environ)
    if world_size <= 1:
        return []
    if missing := [name for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in environ]:
        found = f"{world_size} without {', '.join(missing)}"
        return [Problem("WORLD_SIZE", found, "a launcher that sets these variables")]
    if int(environ["RANK"]) >= world_size:
        return [Problem("RANK", environ["RANK"], f"a number below WORLD_SIZE, which is {world_size}")]
    if not wants_cpu(device, environ) and not torch.cuda.is_available() and not driver_problems(device):
        found = f"{world_size}, but Accelerate would detect 1 process: this machine has no GPU"
        expected = (
            "CPU ranks: `accelerate launch --config_file launch/accelerate/cpu_ranks.yaml`, or another launcher with "
            "ACCELERATE_USE_CPU=true in the environment or with --run.device cpu"
        )
        return [Problem("WORLD_SIZE", found, expected)]
    if not _resolves(environ["MASTER_ADDR"]):
        found = f"{environ['MASTER_ADDR']!r}, which cannot be resolved"
        return [Problem("MASTER_ADDR", found, "a host name or IP address")]
    return []


def device_problems(device: str, environ: Mapping[str, str] = os.environ) -> list[Problem]:
    """Return why run.device cannot be used on this machine, or not by this many ranks."""
    if not wants_cpu(device, environ) and (problems := driver_problems(device) or gpu_count_problems(environ)):
        return problems
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(device, True):
        return [Problem("run.device", f"{device}, which this machine does not have", "auto, cpu or another device")]
    if device == "cuda" and _launcher_wants_cpu(environ):
        found = "cuda, and ACCELERATE_USE_CPU=true in the environment, which chooses the CPU"
        return [Problem("run.device", found, "one of the two: unset ACCELERATE_USE_CPU, or run.device cpu")]
    if device == "mps" and read_world_size(environ) > 1:
        return [Problem("run.device", "mps with several processes", "one process: mps has no collective operations")]
    return []


@raising_stalled_error()
def init_process_group(device: str = "auto", *, timeout_s: float = 1800.0) -> Ranks:
    """Initialize the process group from the launcher's environment variables. Without a launcher, world size is 1.

    Must be called by all ranks.

    Args:
        device: auto (cuda, else mps, else cpu), cpu, cuda or mps.
        timeout_s: time limit of every collective operation.
    Raises:
        ConfigError: the environment variables are inconsistent, or Accelerate detects another world size.
        StalledError: a rank did not join within the timeout.
    """
    problems = launch_problems(device) + device_problems(device)
    if problems:
        raise ConfigError(problems)
    world_size = read_world_size()
    if world_size <= 1:
        # Otherwise Accelerate initializes a process group of one rank, and waits without end for a MASTER_ADDR that
        # does not resolve.
        for name in RANK_VARIABLES:
            os.environ.pop(name, None)
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    state = _init_accelerate(device, timeout_s)
    if state.num_processes != world_size:
        raise ConfigError.of("WORLD_SIZE", world_size, f"{state.num_processes}, as detected by Accelerate")
    set_arithmetic(state.device)
    return Ranks(state.process_index, state.num_processes, local_rank, state.device)


def _init_accelerate(device: str, timeout_s: float) -> Any:
    """Return Accelerate's state, with the device of this rank; several ranks initialize the process group."""
    from accelerate import PartialState

    world_size = read_world_size()
    uses_gpus = world_size > 1 and not wants_cpu(device) and torch.cuda.is_available()
    settings: dict[str, Any] = {"timeout": timedelta(seconds=timeout_s + uses_gpus * NCCL_MARGIN_S)}
    local_rank = os.environ.get("LOCAL_RANK", "0")
    if uses_gpus:
        settings["backend"] = GPU_BACKENDS
        # Accelerate selects the GPU by this variable, and gives DDP the same number.
        os.environ["LOCAL_RANK"] = str(find_gpu_number())
    with announcing_wait(describe_meeting(world_size), shown=world_size > 1), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="OMP_NUM_THREADS")
        state = PartialState(cpu=wants_cpu(device), **settings)
    if uses_gpus:
        os.environ["LOCAL_RANK"] = local_rank
        from torch.distributed.distributed_c10d import _get_default_group

        # Private, because torch.distributed.set_timeout (torch 2.14) sets one timeout for all backends.
        gloo: Any = _get_default_group()._get_backend(torch.device("cpu"))
        gloo._set_default_timeout(timedelta(seconds=timeout_s))
    return state


@contextmanager
def process_group(device: str = "auto") -> Iterator[Ranks]:
    """Join the process group of a command, and leave it at the end of the block, but not after an error.

    Args:
        device: as in `init_process_group`.
    """
    ranks = init_process_group(device)
    yield ranks
    destroy_process_group()


def destroy_process_group() -> None:
    """Leave the process group, if there is one, and close its connections.

    Not to be called after an error: NCCL waits for operations that the other ranks would have to finish, and they wait
    for this one. Then `run_command` ends the process, and with it the connections.
    """
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def _launcher_wants_cpu(environ: Mapping[str, str]) -> bool:
    return environ.get("ACCELERATE_USE_CPU", "").lower() in {"1", "true", "yes"}


def _resolves(host: str) -> bool:
    try:
        socket.getaddrinfo(host, None)
    except socket.gaierror:
        return False
    return True
