"""Read back what a run wrote."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

from vqdist.runs.run_dir import RunDir


def read_records(path: Path) -> list[dict[str, Any]]:
    """Return the records of a JSON-lines file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """Return the records of a run's metrics.jsonl without `perf`, which differs from run to run."""
    records = read_records(RunDir(run).metrics)
    return [{name: value for name, value in record.items() if name != "perf"} for record in records]


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() for path in files}
