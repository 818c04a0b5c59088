"""status.json of a run directory: how far its training is, and how it ended."""

import json
from pathlib import Path
from typing import Any

STATUS_FILE = "status.json"
CONFIG_FILE = "config.yaml"


def is_run(path: Path) -> bool:
    """Return whether a path is a run directory, for messages about a run where pictures are expected."""
    return (path / STATUS_FILE).is_file() and (path / CONFIG_FILE).is_file()


def read_status(run: Path) -> dict[str, Any]:
    """Return the contents of status.json of a run directory, {} if there is none."""
    try:
        status = json.loads((run / STATUS_FILE).read_text())
    except (OSError, ValueError):
        return {}
    return status if isinstance(status, dict) else {}
