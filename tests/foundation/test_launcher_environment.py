"""Rank and world size come from the launcher's environment; without one, there is one process."""

import pytest

from vqdist.foundation.launcher_environment import (
    launcher_setting_problems,
    number_problems,
    read_rank,
    read_world_size,
    world_problems,
)


@pytest.mark.parametrize(
    ("environ", "rank", "world_size"),
    [
        ({}, 0, 1),
        ({"WORLD_SIZE": "4", "RANK": "3"}, 3, 4),
        ({"WORLD_SIZE": "1", "RANK": "3"}, 0, 1),
        ({"RANK": "3"}, 0, 1),
        ({"WORLD_SIZE": "four", "RANK": "3"}, 0, 1),
        ({"WORLD_SIZE": "4", "RANK": "x"}, 0, 4),
    ],
)
def test_rank_and_world_size(environ: dict[str, str], rank: int, world_size: int) -> None:
    assert (read_rank(environ), read_world_size(environ)) == (rank, world_size)


def test_values_that_are_no_numbers_are_reported_together() -> None:
    environ = {"WORLD_SIZE": "two", "RANK": "0", "SLURM_NTASKS": "-1", "HOME": "x"}
    assert [str(problem) for problem in number_problems(environ)] == [
        "WORLD_SIZE: found 'two'; expected a whole number",
        "SLURM_NTASKS: found '-1'; expected a whole number",
    ]
    assert number_problems({"WORLD_SIZE": "2"}) == []


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({}, ""),
        (
            {"OMPI_COMM_WORLD_SIZE": "2"},
            "OMPI_COMM_WORLD_SIZE: found 2 processes of an MPI launcher, and no WORLD_SIZE",
        ),
        ({"PMI_SIZE": "4", "WORLD_SIZE": "1"}, "PMI_SIZE: found 4 processes of an MPI launcher, and WORLD_SIZE=1"),
        ({"PMI_SIZE": "1", "MV2_COMM_WORLD_SIZE": "3"}, "MV2_COMM_WORLD_SIZE: found 3 processes"),
        ({"OMPI_COMM_WORLD_SIZE": "2", "WORLD_SIZE": "8"}, ""),  # torchrun below mpirun
        ({"OMPI_COMM_WORLD_SIZE": "1", "PMI_SIZE": "x"}, ""),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "PMI_SIZE": "4"}, "Slurm: found 4 tasks and no WORLD_SIZE"),
    ],
)
def test_processes_that_would_each_train_alone(environ: dict[str, str], problem: str) -> None:
    problems = world_problems(environ)
    assert [str(found).startswith(problem) for found in problems] == [True] * bool(problem)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("ACCELERATE_USE_DEEPSPEED", "true", "false: vqdist trains with DDP"),
        ("ACCELERATE_USE_FSDP", "1", "false: vqdist trains with DDP"),
        ("ACCELERATE_USE_MEGATRON_LM", "True", "false: vqdist trains with DDP"),
        ("ACCELERATE_USE_PARALLELISM_CONFIG", "true", "false: vqdist trains with DDP"),
        ("ACCELERATE_DYNAMO_BACKEND", "INDUCTOR", "no; --train.compile true"),
        ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4", "1; --data.micro_batch_size"),
    ],
)
def test_settings_of_the_launcher_that_are_not_followed(name: str, value: str, expected: str) -> None:
    (problem,) = launcher_setting_problems({name: value, "ACCELERATE_MIXED_PRECISION": "no"})
    assert (problem.where, problem.found.split(",")[0]) == (name, value)
    assert problem.expected.startswith(expected)


def test_the_defaults_of_the_launcher_are_no_problem() -> None:
    defaults = {"ACCELERATE_USE_DEEPSPEED": "false", "ACCELERATE_USE_FSDP": "0", "ACCELERATE_DYNAMO_BACKEND": "NO"}
    assert launcher_setting_problems(defaults | {"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "1"}) == []
