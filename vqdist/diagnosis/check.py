"""Results of checks: one per check, merged over ranks, as rows of a table and as JSON."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from vqdist.foundation.errors import Problem
from vqdist.foundation.progress import count_noun, print_message
from vqdist.runs.resume_checks import Contradiction

State = Literal["ok", "note", "fix"]
NAME_COLUMNS = 13  # of the longest name
_SEVERITY: dict[State, int] = {"ok": 0, "note": 1, "fix": 2}


@dataclass(frozen=True)
class Check:
    """Result of one check.

    Attributes:
        state: ok; note, if a run works but could be better; fix, if a run would fail.
        fix: what to change; empty if the state is ok.
        figures: measured numbers by name; each name ends in its unit.
    """

    name: str
    state: State
    found: str
    fix: str = ""
    figures: dict[str, float] = field(default_factory=dict)


def checks_from_problems(name: str, problems: Sequence[Problem]) -> list[Check]:
    """Return one check with the state `fix` for each problem."""
    return [Check(name, "fix", f"{problem.where}: {problem.found}", _describe_fix(problem)) for problem in problems]


def _describe_fix(problem: Problem) -> str:
    return problem.expected if isinstance(problem, Contradiction) else f"correct it: expected {problem.expected}"


def merge_ranks(checks_by_rank: Sequence[Sequence[Check]], hosts: Sequence[str]) -> list[Check]:
    """Merge the same checks of all ranks: each result is that of the first rank with the worst state."""
    merged = []
    for checks in zip(*checks_by_rank, strict=True):
        worst = max(range(len(checks)), key=lambda rank: _SEVERITY[checks[rank].state])
        check = checks[worst]
        if check.state != "ok" and len(checks) > 1:
            count = sum(other.state == check.state for other in checks)
            check = replace(check, found=f"{check.found} (on {count} of {len(checks)} ranks, first {hosts[worst]})")
        merged.append(check)
    return merged


def is_ready(checks: Sequence[Check]) -> bool:
    """Return whether a run can start: no check has the state `fix`."""
    return all(check.state != "fix" for check in checks)


def print_as_they_end(checks: Iterable[Check], *, name_columns: int = NAME_COLUMNS) -> list[Check]:
    """Print each check as soon as it has ended, from rank 0, and return all of them.

    Args:
        name_columns: width of the column of names.
    """
    ended = []
    for check in checks:
        print_message(format_check(check, name_columns))
        ended.append(check)
    return ended


def format_check(check: Check, name_columns: int = NAME_COLUMNS) -> str:
    """Format a check as rows of a table: name, state, what was found and, below it, what to change."""
    row = f"{check.name:<{name_columns}}  {check.state:<4}  {check.found}"
    return f"{row}\n{'':<{name_columns}}        -> {check.fix}" if check.fix else row


def summarize_checks(checks: Sequence[Check]) -> str:
    """Return the result of all checks in one line."""
    counts = {state: sum(check.state == state for check in checks) for state in ("fix", "note")}
    notes = f", {count_noun(counts['note'], 'note')}" if counts["note"] else ""
    return f"ready{notes}" if is_ready(checks) else f"not ready: {counts['fix']} to fix{notes}"


def to_json(checks: Sequence[Check], *, run_dir: Path | None = None, data_path: str | None = None) -> dict[str, Any]:
    """Return the checks as a JSON object for scripts, with the run directory and dataset of the configuration."""
    return {
        "ready": is_ready(checks),
        "run_dir": None if run_dir is None else str(run_dir),
        "data_path": data_path,
        "figures": {name: value for check in checks for name, value in check.figures.items()},
        "checks": [{"name": c.name, "state": c.state, "found": c.found, "fix": c.fix} for c in checks],
    }
