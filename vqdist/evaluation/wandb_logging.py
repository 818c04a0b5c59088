"""Send the report of `vqdist evaluate` to the W&B run of the training run."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vqdist.config.loading import load_config
from vqdist.config.tracking_mode import resolve_mode
from vqdist.evaluation.samples.sample_table import find_picture
from vqdist.foundation.errors import ConfigError
from vqdist.foundation.progress import print_message
from vqdist.foundation.run_status import read_status
from vqdist.runs.run_dir import RunDir
from vqdist.tracking.metric_rows import GLOBAL_STEP
from vqdist.tracking.state import TrackingState
from vqdist.tracking.tracker import Tracker


def publish(
    run: Path, report: Mapping[str, Any], environ: Mapping[str, str] = os.environ, *, samples: Path | None = None
) -> None:
    """Send the metrics and figures of a report to W&B. Raises no error.

    Nothing is sent for a saved model, for a run that was not tracked and for one that is still running.

    Args:
        run: the run's directory, or the folder of a saved model.
        report: the report of `vqdist evaluate`, with its `figures`.
        samples: folder of the samples in the report.
        environ: the environment; WANDB_MODE overrides the mode of the run.
    """
    run_dir, status = RunDir(run), read_status(run)
    if not run_dir.config.is_file() or not TrackingState.load(run_dir.wandb).start:
        return
    if status.get("state") == "running":
        print_message(f"{run} is running: the report is not sent to W&B")
        return
    try:
        config, problems = load_config(run_dir.config, [])
        if config is None or problems:
            raise ConfigError(problems)
        config = config.replace("tracking", mode=resolve_mode(None, environ, config.tracking.mode))
    except ConfigError as error:
        print_message(f"W&B: the report is not sent: {error}")
        return
    tracker = Tracker(run_dir, config, has_ended=True)
    step, split = int(status.get("step", 0)), str(report["split"])
    values = {f"evaluate/{split}_{name}": value for name, value in flatten(report["metrics"])}
    values |= {f"evaluate/samples_{name}": value for name, value in flatten(report.get("realism", {}))}
    tracker.log_row({GLOBAL_STEP: step, **values})
    tracker.log_pictures(step, {f"evaluate/{Path(path).stem}": Path(path) for path in report.get("figures", [])})
    if samples is not None and (rows := report.get("sample_table")):
        pictures = [find_picture(samples, row["file"]) for row in rows]
        shown = pictures if all(picture.is_file() for picture in pictures) else []
        tracker.log_table(step, "evaluate/sample_table", rows, shown)
    tracker.finish("finished", 0 if status.get("state") == "finished" else 1)


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yield (path, number) of nested mappings; a `mean` has the path of its mapping."""
    for key, value in values.items():
        name = prefix.rstrip("_") if key == "mean" and prefix else f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from flatten(value, f"{name}_")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield name, value
