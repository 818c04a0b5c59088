"""Read metrics.jsonl of a run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vqdist.foundation.json_lines import read_json_lines


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a metrics.jsonl, up to the first one that is incomplete."""
    return [record for _, record in read_json_lines(path)]


def training_seconds(lines: Sequence[dict[str, Any]]) -> float:
    """Return the wall time that the lines of a metrics.jsonl cover, validation included.

    The steps after the last line before each stop, at most `train.log_every`, are not counted.
    """
    return sum(line["perf"]["seconds"] for line in lines)
