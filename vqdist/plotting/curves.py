"""A run's curves, drawn from its metrics.jsonl with matplotlib, and what every diagram begins and ends with."""

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vqdist.foundation.atomic_files import write_atomic
from vqdist.foundation.json_lines import read_json_lines

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GREY, BLUE, GREEN, RED = "#9a9a9a", "#1f5fa8", "#2a9d6e", "#d1495b"
_DPI = 110
_AXIS_NAMES = {"loss": "loss", "ssim": "SSIM", "ssim_brain": "SSIM inside the brain", "bits_per_code": "bits per code"}
Values = npt.NDArray[np.float64]


def draw_losses(metrics_file: str | Path, path: str | Path) -> Path:
    """Draw the loss, and what else validate measures, of a run against its steps.

    Args:
        metrics_file: the run's metrics.jsonl.
    """
    lines = read_metrics(Path(metrics_file))
    extra = [name for name in ("ssim", "ssim_brain", "bits_per_code") if _series(lines, "validate", name)[0].size]
    figure, axes = start_figure(1, 1 + len(extra), width=5.2 * (1 + len(extra)), height=4)
    for axis, name in zip(axes[0], ["loss", *extra], strict=True):
        for split, colour in (("train", GREY), ("validate", RED)):
            steps, values = _series(lines, split, name)
            if steps.size:
                marker = "o" if split == "validate" else None
                axis.plot(steps, values, color=colour, label=split, marker=marker, markersize=3, linewidth=1.2)
        axis.set(xlabel="step", ylabel=_AXIS_NAMES[name], title=_AXIS_NAMES[name])
        values = np.concatenate([_series(lines, split, name)[1] for split in ("train", "validate")])
        if name == "loss" and values.size and 0 < 10 * values.min() < values.max():
            axis.set_yscale("log")
        if axis.get_legend_handles_labels()[0]:
            axis.legend(frameon=False)
    return save_figure(figure, path)


def start_figure(rows: int, columns: int, *, width: float, height: float) -> "tuple[Figure, npt.NDArray[Any]]":
    """Return a figure without a window, and its axes in rows."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


def save_figure(figure: "Figure", path: str | Path) -> Path:
    """Write a figure as PNG; a reader never sees half of it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = BytesIO()
    figure.savefig(picture, format="png", metadata={"Software": None})
    write_atomic(path, picture.getvalue())
    return path


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the whole lines of a metrics.jsonl; one cut off by a kill ends them."""
    return [record for _, record in read_json_lines(path)]


def training_seconds(lines: list[dict[str, Any]]) -> float:
    """Return the wall time that a run's metrics tell of, its evaluations included.

    What a start did after its last line is not among them: of each stop at most `train.log_every` steps.
    """
    return sum(line["perf"]["seconds"] for line in lines)


def _series(lines: list[dict[str, Any]], split: str, name: str) -> tuple[Values, Values]:
    pairs = [(line["step"], line[name]) for line in lines if line.get("split") == split and line.get(name) is not None]
    steps, values = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
    return steps, values
