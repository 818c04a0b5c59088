"""What `vqdist.evaluate` finds, told to W&B: in the run that trained the model, behind what training told of it."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vqdist.foundation.errors import ConfigError
from vqdist.foundation.progress import print_from_any_rank
from vqdist.runs.run_dir import read_run_config, read_status
from vqdist.tracking.sent import SentSteps
from vqdist.tracking.tracker import Mode, Reporter, Tracker, resolve_mode


def publish(run: Path, report: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> None:
    """Send metrics and figures of a report to the run's W&B run; quiet where it was not tracked, never an error.

    Args:
        run: the run's directory; a saved model alone is not tracked.
        report: of `vqdist.evaluate`, with its `figures`.
    """
    try:
        mode = find_mode(run, environ)
        if mode == "disabled":
            return
        status = read_status(run)
        if status.get("state") == "running":
            print_from_any_rank(f"{run} is running: what evaluate finds is not sent to W&B")
            return
        start = {**SentSteps(run / "wandb").start, "mode": mode, "config": {}, "resumed_step": 0, "fill": True}
        tracker = Tracker(run, Reporter(run, start))
    except (ConfigError, OSError) as error:
        print_from_any_rank(f"W&B: what evaluate found is not sent: {error}")
        return
    step = int(status.get("step", 0))
    split = str(report["split"])
    values = {f"evaluate/{split}_{name}": value for name, value in flatten(report["metrics"])}
    values |= {f"evaluate/samples_{name}": value for name, value in flatten(report.get("realism", {}))}
    tracker.log({"step": step, "split": "evaluate", **values})
    tracker.log_pictures(step, {f"evaluate/{Path(path).stem}": Path(path) for path in report.get("figures", [])})
    tracker.finish("finished", 0 if status.get("state") == "finished" else 1)


def find_mode(run: Path, environ: Mapping[str, str]) -> Mode:
    """Return how to reach the W&B run of a training run: disabled where it has none, else as it was trained.

    Raises:
        ConfigError: WANDB_MODE or the run's configuration is none.
    """
    if not ((run / "config.yaml").is_file() and SentSteps(run / "wandb").start):
        return "disabled"
    return resolve_mode(None, environ, (read_run_config(run).get("tracking") or {}).get("mode"))


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yield the numbers of nested objects with the path to each; a mean bears the name of what it is the mean of."""
    for key, value in values.items():
        name = prefix.rstrip("_") if key == "mean" and prefix else f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from flatten(value, f"{name}_")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield name, value
