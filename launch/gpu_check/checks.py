"""The table of the checks, and the settings that all parts share."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

LIMIT_S = 240.0  # on a GPU no part starts later
PROCESS_LIMIT_S = 110.0  # on a GPU; a CPU may be busy


@dataclass(frozen=True)
class Check:
    """One row of the table; `passed` is None for a figure without a goal."""

    check: str
    found: str
    goal: str = ""
    passed: bool | None = None


@dataclass
class Checker:
    """Settings and results of a run of the script.

    Attributes:
        steps: of each short training.
    """

    device: str
    out: Path
    data: Path
    small: bool
    checks: list[Check] = field(default_factory=list)
    started_s: float = field(default_factory=time.monotonic)

    @property
    def steps(self) -> int:
        return 6 if self.small else 40

    @property
    def on_gpu(self) -> bool:
        return self.device == "cuda"

    @property
    def process_limit_s(self) -> float:
        return PROCESS_LIMIT_S if self.on_gpu else 1500.0

    def add(self, check: str, found: str, goal: str = "", passed: bool | None = None) -> None:
        """Add a row and print it."""
        self.checks.append(Check(check, found, goal, passed))
        print_line(format_row(self.checks[-1]))

    def run_part(self, part: "Callable[[Checker], None]") -> None:
        """Run a part, unless the time is over; an error is a failed check."""
        name = part.__name__.replace("_", " ")
        spent_s = time.monotonic() - self.started_s
        if self.on_gpu and spent_s > LIMIT_S:
            self.add(name, f"left out after {spent_s:.0f} s", "", False)
            return
        try:
            part(self)
        except Exception as error:  # noqa: BLE001 (reported, and the other parts go on)
            self.add(name, f"{type(error).__name__}: {str(error)[:200]}", "no error", False)


def print_line(text: str) -> None:
    sys.stderr.write(text + "\n")


def format_row(check: Check) -> str:
    verdict = {None: "", True: "yes", False: "**no**"}[check.passed]
    cells = (text.replace("|", "/").replace("\n", " ") for text in (check.check, check.found, check.goal, verdict))
    return f"| {' | '.join(cells)} |"
