"""The process group: collective operations, ranks that die or hang, and wrong environments."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support import on_ranks, wait_until

from vqdist.distributed.process_group import (
    Ranks,
    destroy_process_group,
    device_problems,
    init_process_group,
    launch_problems,
    raising_stalled_error,
    wants_cpu,
)
from vqdist.foundation.errors import ConfigError, StalledError

STALLED = "another rank died or did not respond within run.timeout_s"
# A rank that dies is detected at once, whatever the timeout; one that hangs, when the timeout is over.
TIMEOUT_S = {"dies": 3600.0, "hangs": 6.0}


def call_collectives() -> list[Any]:
    """Return what each collective operation returns on this rank."""
    ranks = init_process_group("cpu")
    ranks.barrier()
    return [
        ranks.all_reduce(torch.tensor([1.0, ranks.rank])).tolist(),
        ranks.any(ranks.rank == 1, False, True),
        ranks.broadcast(torch.tensor(ranks.rank + 5)).item(),
        ranks.broadcast_object({"from": ranks.rank}),
        ranks.gather_objects(f"rank {ranks.rank}"),
    ]


@pytest.mark.ranks
@pytest.mark.parametrize("world_size", [1, 3])
def test_collective_operations(world_size: int) -> None:
    total = sum(range(world_size))
    expected = [
        [float(world_size), float(total)],
        [world_size > 1, False, True],
        5,
        {"from": 0},
        [f"rank {rank}" for rank in range(world_size)],
    ]
    assert on_ranks(call_collectives, ranks=world_size) == [expected] * world_size


CALLS: tuple[Callable[[Ranks], object], ...] = (
    lambda ranks: ranks.all_reduce(torch.ones(3)),
    lambda ranks: ranks.broadcast(torch.ones(3)),
    lambda ranks: ranks.broadcast_object({"a": 1}),
    lambda ranks: ranks.gather_objects("b"),
    lambda ranks: ranks.any(True, False),
    lambda ranks: ranks.barrier(),
)


def call_without_a_rank(call: int, fault: str, victim: int, folder: str) -> str:
    """Make a collective call that one rank does not join; return the error of the other ranks.

    The victim that hangs continues only after the others have reported their errors.
    """
    ranks = init_process_group("cpu", timeout_s=TIMEOUT_S[fault])
    ranks.barrier()
    if ranks.rank == victim:
        if fault == "hangs":
            wait_until(lambda: len(list(Path(folder).iterdir())) == ranks.world_size - 1)
        destroy_process_group()
        return ""
    try:
        CALLS[call](ranks)
        ranks.barrier()  # a broadcast may succeed on a rank that has already received its data
    except StalledError as error:
        (Path(folder) / str(ranks.rank)).touch()
        return str(error)
    return "no error"


@pytest.mark.ranks
def test_a_rank_that_dies_or_hangs_is_an_error_of_the_others(tmp_path: Path) -> None:
    cases = [(call, "dies", call % 2) for call in range(len(CALLS))] + [(0, "hangs", 0), (3, "hangs", 1)]

    def run(case: tuple[int, str, int]) -> list[str]:
        folder = tmp_path / f"{case[0]}-{case[1]}"
        folder.mkdir()
        return on_ranks(call_without_a_rank, *case, str(folder), ranks=3)

    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(run, cases))
    for (_, _, victim), errors in zip(cases, outcomes, strict=True):
        assert errors.pop(victim) == ""
        assert all(error.startswith(STALLED) for error in errors), errors


def join_or_not(folder: str) -> str:
    """Join the process group, except on rank 1, which waits until rank 0 has reported its error."""
    if os.environ["RANK"] == "1":
        wait_until((Path(folder) / "reported").exists)
        return ""
    try:
        init_process_group("cpu", timeout_s=1.0)
    except StalledError as error:
        (Path(folder) / "reported").touch()
        return str(error)
    return "no error"


@pytest.mark.ranks
def test_a_rank_that_never_joins_is_an_error(tmp_path: Path) -> None:
    assert on_ranks(join_or_not, str(tmp_path), ranks=2)[0].startswith(STALLED)


TWO_RANKS = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.mark.parametrize(
    ("device", "environment", "problem"),
    [
        ("auto", {}, ""),
        ("cpu", TWO_RANKS, ""),
        ("auto", TWO_RANKS | {"ACCELERATE_USE_CPU": "true"}, ""),
        ("auto", TWO_RANKS, "WORLD_SIZE: found 2, but Accelerate would detect 1 process"),
        ("cpu", {"WORLD_SIZE": "2", "RANK": "0"}, "WORLD_SIZE: found 2 without LOCAL_RANK, MASTER_ADDR, MASTER_PORT"),
        ("cpu", TWO_RANKS | {"MASTER_ADDR": "no-host.invalid"}, "MASTER_ADDR: found 'no-host.invalid'"),
        ("cpu", {"WORLD_SIZE": "two"}, "WORLD_SIZE: found 'two'"),
        ("cpu", TWO_RANKS | {"WORLD_SIZE": "1", "MASTER_ADDR": "no-host.invalid"}, ""),
        ("cpu", TWO_RANKS | {"RANK": "2"}, "RANK: found 2; expected a number below WORLD_SIZE, which is 2"),
        ("cpu", {"OMPI_COMM_WORLD_SIZE": "2"}, "OMPI_COMM_WORLD_SIZE: found 2 processes of an MPI launcher"),
        ("cpu", TWO_RANKS | {"ACCELERATE_USE_FSDP": "true"}, "ACCELERATE_USE_FSDP: found true"),
        ("cpu", {"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, "Slurm: found 4 tasks and no WORLD_SIZE"),
        ("cpu", {"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "1"}, ""),
    ],
)
def test_launch_problems(
    monkeypatch: pytest.MonkeyPatch, device: str, environment: dict[str, str], problem: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    problems = launch_problems(device, environment)
    assert [str(found).startswith(problem) for found in problems] == [True] * bool(problem)


def test_ranks_without_gpus_are_pointed_to_the_launch_file_for_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (problem,) = launch_problems("auto", TWO_RANKS)
    assert "launch/accelerate/cpu_ranks.yaml" in problem.expected
    assert (Path(__file__).parents[2] / "launch/accelerate/cpu_ranks.yaml").is_file()


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert device_problems("auto", {}) == device_problems("cpu", {}) == device_problems("mps", {}) == []
    assert "cuda, which this machine does not have" in str(device_problems("cuda", {})[0])
    assert "expected one process" in str(device_problems("mps", {"WORLD_SIZE": "2"})[0])
    for device, environment, expected in (
        ("cpu", {}, True),
        ("auto", {}, False),
        ("auto", {"ACCELERATE_USE_CPU": "yes"}, True),
        ("auto", {"CUDA_VISIBLE_DEVICES": "-1"}, True),
        ("auto", {"CUDA_VISIBLE_DEVICES": ""}, True),
        ("cuda", {"CUDA_VISIBLE_DEVICES": "0,1"}, False),
    ):
        assert wants_cpu(device, environment) == expected


def test_a_device_and_a_launcher_that_contradict_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    (problem,) = device_problems("cuda", {"ACCELERATE_USE_CPU": "true"})
    assert str(problem).startswith("run.device: found cuda, and ACCELERATE_USE_CPU=true in the environment")
    assert device_problems("cuda", {"ACCELERATE_USE_CPU": "false"}) == device_problems("cuda", {}) == []


def join_as_gpu_ranks() -> list[Any]:
    """Join where torch sees a GPU, with the process group of GPUs, whose part for the CPU is gloo.

    NCCL is replaced by gloo too, as there is no GPU.
    """
    import accelerate

    seen: dict[str, Any] = {}

    def join(*, cpu: bool, backend: str, timeout: timedelta) -> SimpleNamespace:
        seen.update(cpu=cpu, backend=backend, timeout_s=timeout.total_seconds(), local_rank=os.environ["LOCAL_RANK"])
        torch.distributed.init_process_group(backend.replace("nccl", "gloo"), timeout=timeout)
        rank = torch.distributed.get_rank()
        return SimpleNamespace(process_index=rank, num_processes=2, device=torch.device("cuda", 0))

    accelerate.PartialState = join
    del os.environ["ACCELERATE_USE_CPU"]
    os.environ["CUDA_VISIBLE_DEVICES"] = "MIG-1"
    torch.cuda.is_available, torch.cuda.device_count = lambda: True, lambda: 1
    ranks = init_process_group("auto", timeout_s=30.0)
    gloo = torch.distributed.distributed_c10d._get_default_group()._get_backend(torch.device("cpu"))
    ranks.barrier()
    exchanged = [ranks.any(ranks.rank == 1), ranks.broadcast_object(ranks.rank), ranks.gather_objects(ranks.rank)]
    return [seen, gloo.options._timeout.total_seconds(), ranks.local_rank, os.environ["LOCAL_RANK"], exchanged]


@pytest.mark.ranks
def test_ranks_with_gpus_exchange_flags_and_objects_over_gloo() -> None:
    found = on_ranks(join_as_gpu_ranks, ranks=2)
    for rank, (seen, timeout_s, *ranks_here, exchanged) in enumerate(found):
        assert seen.pop("timeout_s") > 60.0, "gloo reports a rank that hangs before NCCL ends the process"
        assert seen == {"cpu": False, "backend": "cuda:nccl,cpu:gloo", "local_rank": "0"}, "the only GPU is number 0"
        assert timeout_s == 30.0
        assert ranks_here == [rank, str(rank)]
        assert exchanged == [[True], 0, [0, 1]]


def test_two_ranks_on_one_gpu_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    expected = "CUDA_VISIBLE_DEVICES: found 0, and two ranks on one GPU"
    with pytest.raises(ConfigError, match=expected), raising_stalled_error():
        raise torch.distributed.DistBackendError("Duplicate GPU detected : rank 1 and rank 0 both on CUDA device 4000")


def join_alone() -> list[Any]:
    """Join as the only process of a launcher whose main address does not resolve, as in a job of one pod."""
    os.environ |= {"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "no-host.invalid"}
    os.environ["MASTER_PORT"] = "29500"
    ranks = init_process_group("cpu", timeout_s=20.0)
    return [ranks.rank, ranks.world_size, torch.distributed.is_initialized()]


@pytest.mark.ranks
def test_a_single_process_needs_no_main_address() -> None:
    assert on_ranks(join_alone, ranks=1, timeout_s=100.0) == [[0, 1, False]]
