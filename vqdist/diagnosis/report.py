"""What a check found, what many ranks found together, and the table that a person reads."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from vqdist.foundation.errors import Problem

# From good to bad; what must be mended is last.
STATES = ("ok", "note", "mend")


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        state: ok; note, where it works but could be better; mend, where a run would fail.
        found: what is there, in a few words.
        mend: what to do about it; empty where all is well.
        figures: measured numbers by name, the unit in the name.
    """

    name: str
    state: str
    found: str
    mend: str = ""
    figures: dict[str, float] = field(default_factory=dict)


def of_problems(name: str, problems: Sequence[Problem], fine: str) -> list[Check]:
    """Return a check for each problem, or one that says that all is fine."""
    if not problems:
        return [Check(name, "ok", fine)]
    return [Check(name, "mend", f"{problem.where}: {problem.found}", problem.expected) for problem in problems]


def merge(by_rank: Sequence[Sequence[Check]], hosts: Sequence[str]) -> list[Check]:
    """Return one check for each that every rank made: the worst, and how many ranks are as bad."""
    merged = []
    for checks in zip(*by_rank, strict=True):
        worst = max(range(len(checks)), key=lambda rank: STATES.index(checks[rank].state))
        check = checks[worst]
        alike = sum(other.state == check.state for other in checks)
        found = check.found
        if check.state != "ok" and len(checks) > 1:
            found += f" (on {alike} of {len(checks)} ranks, first {hosts[worst]})"
        merged.append(Check(check.name, check.state, found, check.mend, check.figures))
    return merged


def is_ready(checks: Sequence[Check]) -> bool:
    """Tell whether a run can start."""
    return all(check.state != "mend" for check in checks)


def build_table(checks: Sequence[Check]) -> str:
    """Return the checks as lines: name, state, finding, and under it what to do."""
    width = max((len(check.name) for check in checks), default=0)
    lines = []
    for check in checks:
        lines.append(f"{check.name:<{width}}  {check.state:<4}  {check.found}")
        if check.mend:
            lines.append(f"{'':<{width}}        -> {check.mend}")
    return "\n".join(lines)


def to_json(checks: Sequence[Check], **facts: Any) -> dict[str, Any]:
    """Return the checks for scripts."""
    rows = [{"name": c.name, "state": c.state, "found": c.found, "mend": c.mend} for c in checks]
    figures = {name: value for check in checks for name, value in check.figures.items()}
    return {"ready": is_ready(checks), **facts, "figures": figures, "checks": rows}
