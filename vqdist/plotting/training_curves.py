"""Training curves of a run, drawn from its metrics.jsonl."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vqdist.foundation.json_lines import read_json_lines
from vqdist.plotting.figure import GREY, RED, save_figure, start_figure

_AXIS_NAMES = {
    "loss": "loss",
    "ssim": "SSIM",
    "ssim_brain": "SSIM above 0",
    "bits_per_code": "bits per code",
}
Values = npt.NDArray[np.float64]


def draw_training_curves(metrics_file: str | Path, path: str | Path) -> Path:
    """Draw the loss and the validation metrics of a run over its steps.

    Args:
        metrics_file: metrics.jsonl of the run.
    """
    lines = [record for _, record in read_json_lines(Path(metrics_file))]
    extra = [name for name in ("ssim", "ssim_brain", "bits_per_code") if _series(lines, "validate", name)[0].size]
    figure, axes = start_figure(1, 1 + len(extra), width=5.2 * (1 + len(extra)), height=4)
    for axis, name in zip(axes[0], ["loss", *extra], strict=True):
        for split, colour in (("train", GREY), ("validate", RED)):
            steps, values = _series(lines, split, name)
            if steps.size:
                marker = "o" if split == "validate" or steps.size == 1 else None  # one point has no line
                axis.plot(steps, values, color=colour, label=split, marker=marker, markersize=3, linewidth=1.2)
        axis.set(xlabel="step", ylabel=_AXIS_NAMES[name], title=_AXIS_NAMES[name])
        values = np.concatenate([_series(lines, split, name)[1] for split in ("train", "validate")])
        if name == "loss" and values.size and 0 < 10 * values.min() < values.max():
            axis.set_yscale("log")
        if axis.get_legend_handles_labels()[0]:
            axis.legend(frameon=False)
    return save_figure(figure, path)


def _series(lines: list[dict[str, Any]], split: str, name: str) -> tuple[Values, Values]:
    """Return the steps and the values of one metric on one split."""
    pairs = [(line["step"], line[name]) for line in lines if line.get("split") == split and line.get(name) is not None]
    steps, values = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
    return steps, values
