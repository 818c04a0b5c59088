"""Results of checks: merging over ranks, the table, and the JSON."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from vqdist.diagnosis.check import (
    NAME_COLUMNS,
    Check,
    State,
    checks_from_problems,
    format_check,
    is_ready,
    merge_ranks,
    print_as_they_end,
    summarize_checks,
    to_json,
)
from vqdist.foundation.errors import Problem
from vqdist.runs.resume_checks import Contradiction


def test_worst_rank_decides() -> None:
    fine, bad = Check("memory", "ok", "much"), Check("memory", "note", "little", "more", {"free_bytes": 1.0})
    (merged,) = merge_ranks([[fine], [bad], [bad]], ["one", "two", "three"])
    assert merged == Check("memory", "note", "little (on 2 of 3 ranks, first two)", "more", {"free_bytes": 1.0})


def test_fix_is_worse_than_note_and_equal_ranks_stay_as_they_are() -> None:
    fine, note, fix = (Check("data", state, state) for state in ("ok", "note", "fix"))
    (merged,) = merge_ranks([[note], [fix]], ["one", "two"])
    assert (merged.state, merged.found) == ("fix", "fix (on 1 of 2 ranks, first two)")
    assert merge_ranks([[fine, note]], ["one"]) == [fine, note]
    assert merge_ranks([[fine], [fine]], ["one", "two"]) == [fine]


def test_a_row_shows_what_to_fix() -> None:
    (check,) = checks_from_problems("data", [Problem("shard", "5 bytes", "6 bytes")])
    first, second = format_check(check).splitlines()
    assert first == "data           fix   shard: 5 bytes"
    assert second.strip() == "-> correct it: expected 6 bytes"
    assert not is_ready([check])
    assert to_json([check])["ready"] is False
    assert format_check(Check("ranks", "ok", "all")) == "ranks          ok    all"
    assert max(len("run directory"), len("configuration")) == NAME_COLUMNS


def test_a_problem_that_says_what_to_do_is_not_changed() -> None:
    (check,) = checks_from_problems("run", [Contradiction("optim.lr", "it uses 1; you gave 2", "remove it")])
    assert (check.found, check.fix) == ("optim.lr: it uses 1; you gave 2", "remove it")


def test_checks_are_printed_as_they_end(capsys: pytest.CaptureFixture[str]) -> None:
    printed = []

    def checks() -> Iterator[Check]:
        for name in ("a", "b"):
            yield Check(name, "ok", "fine")
            printed.append(capsys.readouterr().err)

    assert [check.name for check in print_as_they_end(checks())] == ["a", "b"]
    assert [text.split() for text in printed] == [["a", "ok", "fine"], ["b", "ok", "fine"]]


@pytest.mark.parametrize(
    ("states", "text"),
    [
        (["ok"], "ready"),
        (["ok", "note"], "ready, 1 note"),
        (["fix", "note", "note", "fix"], "not ready: 2 to fix, 2 notes"),
    ],
)
def test_the_result_is_one_line(states: list[State], text: str) -> None:
    assert summarize_checks([Check("a", state, "x") for state in states]) == text


def test_json_of_checks() -> None:
    checks = [Check("a", "ok", "x", figures={"steps_per_s": 2.0}), Check("b", "note", "y", "z", {"free_bytes": 3.0})]
    report = json.loads(json.dumps(to_json(checks, run_dir=Path("/runs/a"), data_path="data")))
    assert report == {
        "ready": True,
        "run_dir": "/runs/a",
        "data_path": "data",
        "figures": {"steps_per_s": 2.0, "free_bytes": 3.0},
        "checks": [
            {"name": "a", "state": "ok", "found": "x", "fix": ""},
            {"name": "b", "state": "note", "found": "y", "fix": "z"},
        ],
    }
