"""Results of checks: merging over ranks, the table, and the JSON."""

import json
from pathlib import Path

from vqdist.diagnosis.check import Check, checks_from_problems, format_checks, is_ready, merge_ranks, to_json
from vqdist.foundation.errors import Problem


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


def test_table_shows_what_to_fix() -> None:
    checks = checks_from_problems("data", [Problem("shard", "5 bytes", "6 bytes")])
    assert format_checks(checks) == "data  fix   shard: 5 bytes\n            -> 6 bytes"
    assert not is_ready(checks)
    assert to_json(checks)["ready"] is False


def test_columns_are_as_wide_as_the_longest_name() -> None:
    lines = format_checks([Check("data", "ok", "a"), Check("file system", "note", "b", "c")]).splitlines()
    assert lines == ["data         ok    a", "file system  note  b", "                   -> c"]


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
