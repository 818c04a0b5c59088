"""Errors: all problems together, pickling with every problem, exit codes, and faults of loader workers."""

import pickle
from functools import partial

import pytest

from vqdist.foundation.errors import (
    ConfigError,
    DamagedDataError,
    DataError,
    Extent,
    Problem,
    StalledError,
    UserError,
    VqdistError,
    check_option,
    collect,
    find_worker_fault,
    limit_problems,
    list_examples,
)


def test_a_user_error_lists_every_problem() -> None:
    error = UserError([Problem("a", "1", "2"), Problem("b", "3", "4")])
    assert str(error) == "a: found 1; expected 2\nb: found 3; expected 4"
    assert str(DataError.of("a", 1, None)) == "a: found 1; expected None"


def test_errors_survive_pickle_with_their_type_and_problems() -> None:
    error = pickle.loads(pickle.dumps(DamagedDataError.of("a", "b", "c")))
    assert type(error) is DamagedDataError
    assert error.problems == [Problem("a", "b", "c")]


def test_exit_codes() -> None:
    assert (VqdistError.exit_code, StalledError.exit_code) == (1, 1)
    assert {kind.exit_code for kind in (UserError, ConfigError, DataError, DamagedDataError)} == {2}


def test_collect_runs_every_check_and_raises_all_problems() -> None:
    def fail(where: str) -> None:
        raise DataError.of(where, "x", "y")

    assert collect(lambda: 1, lambda: None) == [1, None]
    with pytest.raises(ConfigError) as caught:
        collect(lambda: fail("b"), lambda: 1, lambda: fail("c"), problems=[Problem("a", "x", "y")])
    assert [problem.where for problem in caught.value.problems] == ["a", "b", "c"]
    with pytest.raises(ZeroDivisionError):
        collect(lambda: 1 / 0)


@pytest.mark.parametrize("text", ["DataLoader worker (pid 7) is killed", "DataLoader timed out after 5 seconds"])
def test_faults_of_loader_workers_are_recognised(text: str) -> None:
    fault = find_worker_fault(RuntimeError(text))
    assert isinstance(fault, StalledError)
    assert str(fault).startswith("data.num_workers: ")
    assert text in str(fault)
    assert find_worker_fault(RuntimeError("CUDA error")) is None


def test_a_list_in_a_message_has_at_most_five_examples_and_the_count() -> None:
    assert list_examples([]) == ""
    assert list_examples(["a", "b"], separator=" or ") == "a or b"
    assert list_examples(range(5)) == "0, 1, 2, 3, 4"
    assert list_examples(dict.fromkeys(range(1234), 0)) == "0, 1, 2, 3, 4, ... (1,234 in all)"


def test_problems_of_a_kind_are_limited_and_the_others_counted() -> None:
    problems = [Problem(f"file {number}", "x", "y") for number in range(8)]
    assert limit_problems(problems[:5], "folder") == problems[:5]
    assert limit_problems(problems[:6], "folder")[5:] == [Problem("folder", "1 more problem like these", "y")]
    assert limit_problems(problems, "folder") == [*problems[:5], Problem("folder", "3 more problems like these", "y")]
    assert limit_problems(problems[:5], "folder", 2005)[5].found == "2,000 more problems like these"


@pytest.mark.parametrize(
    ("extents", "expected"), [([], "machine"), (["all"], "all"), (["all", "machine"], "machine"), (["rank"], "rank")]
)
def test_collected_errors_are_those_of_the_fewest_ranks(extents: list[Extent], expected: Extent) -> None:
    """A rank that alone has an error must report it, also if it becomes a ConfigError."""

    def fail(extent: Extent) -> None:
        error = DataError.of("a", "b", "c")
        error.extent = extent
        raise error

    with pytest.raises(ConfigError) as raised:
        collect(*(partial(fail, extent) for extent in extents), problems=[Problem("d", "e", "f")])
    assert raised.value.extent == expected
    assert [problem.where for problem in raised.value.problems] == ["d", *("a" for _ in extents)]


def test_an_option_is_named_in_the_problems_of_its_value() -> None:
    def fail(*places: str) -> None:
        error = DamagedDataError([Problem(where, "x", "y") for where in places])
        error.extent = "all"
        raise error

    assert check_option("--data", "data/a", lambda: 1) == 1
    places = ("data/a", "data/a: channels", "data/a, test", "data/a/dataset.json", "data/ab", "--split")
    with pytest.raises(DamagedDataError) as caught:
        check_option("--data", "data/a", lambda: fail(*places))
    assert [problem.where for problem in caught.value.problems] == [
        "--data data/a",
        "--data data/a: channels",
        "--data data/a, test",
        "--data: data/a/dataset.json",
        "data/ab",
        "--split",
    ]
    assert caught.value.extent == "all"
