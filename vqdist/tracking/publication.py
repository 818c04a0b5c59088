"""Add the report of `vqdist evaluate` to the W&B run of the training run."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vqdist.foundation.errors import ConfigError
from vqdist.foundation.progress import print_from_any_rank
from vqdist.runs.run_dir import read_config, read_status
from vqdist.tracking.rows import GLOBAL_STEP
from vqdist.tracking.server import resolve_mode
from vqdist.tracking.state import TrackingState
from vqdist.tracking.tracker import Tracker


def publish(run: Path, report: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> None:
    """Send metrics and figures of a report to the W&B run; do nothing for a run that was not tracked. Never raises.

    Args:
        run: the run's directory, or a saved model.
        report: the report of `vqdist evaluate`, with its `figures`.
        environ: the environment; WANDB_MODE beats the run's tracking.mode.
    """
    placement, status = TrackingState.load(run).start, read_status(run)
    if not placement or not (run / "config.yaml").is_file():
        return
    try:
        mode = resolve_mode(None, environ, (read_config(run).get("tracking") or {}).get("mode"))
        if mode == "disabled":
            return
        if status.get("state") == "running":
            print_from_any_rank(f"{run} is running: the report is not sent to W&B")
            return
        tracker = Tracker(run, {"mode": mode, "run": placement, "config": None})
    except (ConfigError, OSError) as error:
        print_from_any_rank(f"W&B: the report is not sent: {error}")
        return
    step, state, split = int(status.get("step", 0)), str(status.get("state", "failed")), report["split"]
    values = {f"evaluate/{split}_{name}": value for name, value in flatten(report["metrics"])}
    values |= {f"evaluate/samples_{name}": value for name, value in flatten(report.get("realism", {}))}
    tracker.log_row({GLOBAL_STEP: step, **values})
    tracker.log_pictures(step, {f"evaluate/{Path(path).stem}": Path(path) for path in report.get("figures", [])})
    tracker.finish(state, 0 if state == "finished" else 1, limit_s=60.0)


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yield the numbers of nested objects with their path as name; a `mean` is named after its object."""
    for key, value in values.items():
        name = prefix.rstrip("_") if key == "mean" and prefix else f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from flatten(value, f"{name}_")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield name, value
