"""Results of batches on several ranks are those of one, and an error on one rank is raised on all."""

from collections.abc import Callable

import pytest
from support import ALONE, on_ranks

from vqdist.distributed.process_group import Ranks, init_process_group
from vqdist.foundation.errors import DataError
from vqdist.inference.work_sharing import gather_results, map_batches, map_in_rounds, run_on_main

COUNTS = (0, 1, 2, 3, 7)


def square_all(ranks: Ranks, num_batches: int) -> tuple[list[int], list[int]]:
    def share() -> range:
        return range(ranks.rank, num_batches, ranks.world_size)

    def square(number: int) -> int:
        return number**2

    return map_batches(ranks, share(), square), list(map_in_rounds(ranks, share(), square))


def fail_on_last_rank(ranks: Ranks, gather: Callable[[Ranks, Callable[[], int]], object]) -> str:
    def work() -> int:
        if ranks.rank == ranks.world_size - 1:
            raise DataError.of("here", "damage", "none")
        return 0

    try:
        gather(ranks, work)
    except DataError as error:
        return str(error)
    return "no error"


def share_work() -> tuple[object, ...]:
    ranks = init_process_group("cpu")
    results = [square_all(ranks, count) for count in COUNTS]
    return results, run_on_main(ranks, lambda: ranks.rank), fail_on_last_rank(ranks, gather_results)


@pytest.mark.ranks
def test_ranks_share_the_batches() -> None:
    for results, main, error in on_ranks(share_work, ranks=3):
        assert results == [[[number**2 for number in range(count)]] * 2 for count in COUNTS]
        assert main == 0
        assert error == "here: found damage; expected none"


def test_one_process_does_all_batches() -> None:
    for count in COUNTS:
        assert square_all(ALONE, count) == ([number**2 for number in range(count)],) * 2
    assert fail_on_last_rank(ALONE, run_on_main) == "here: found damage; expected none"


def test_rounds_are_computed_when_they_are_needed() -> None:
    computed: list[int] = []
    results = map_in_rounds(ALONE, range(5), computed.append)
    next(results)
    next(results)
    assert computed == [0, 1]
