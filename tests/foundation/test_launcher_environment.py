"""Rank and world size come from the launcher's environment; without one, there is one process."""

import pytest

from vqdist.foundation.launcher_environment import number_problems, read_rank, read_world_size


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
