"""Results of checks: one per check, merged over ranks, as a table and as JSON."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from vqdist.foundation.errors import Problem

State = Literal["ok", "note", "fix"]
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
    return [Check(name, "fix", f"{problem.where}: {problem.found}", problem.expected) for problem in problems]


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


def format_checks(checks: Sequence[Check]) -> str:
    """Format the checks as a table: name, state, what was found and, below it, what to change."""
    width = max((len(check.name) for check in checks), default=0)
    lines = []
    for check in checks:
        lines.append(f"{check.name:<{width}}  {check.state:<4}  {check.found}")
        if check.fix:
            lines.append(f"{'':<{width}}        -> {check.fix}")
    return "\n".join(lines)


def to_json(checks: Sequence[Check], *, run_dir: Path | None = None, data_path: str | None = None) -> dict[str, Any]:
    """Return the checks as a JSON object for scripts, with the run directory and dataset of the configuration."""
    return {
        "ready": is_ready(checks),
        "run_dir": None if run_dir is None else str(run_dir),
        "data_path": data_path,
        "figures": {name: value for check in checks for name, value in check.figures.items()},
        "checks": [{"name": c.name, "state": c.state, "found": c.found, "fix": c.fix} for c in checks],
    }
