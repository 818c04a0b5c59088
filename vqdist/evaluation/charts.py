"""Diagrams with matplotlib: what a run learned and how well.

Each function writes one PNG and returns its path, so that a run's directory and W&B show the same.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GREY, BLUE, GREEN, RED = "#9a9a9a", "#1f5fa8", "#2a9d6e", "#d1495b"
_DPI = 110
_AXIS_NAMES = {"loss": "loss", "ssim": "SSIM", "ssim_brain": "SSIM inside the brain", "bits_per_code": "bits per code"}
Values = npt.NDArray[np.float64]


def draw_reconstructions(
    originals: Tensor, recon: Tensor, *, ssim: list[float], names: list[str], path: str | Path
) -> Path:
    """Draw slices in columns: original, reconstruction, and their difference.

    Args:
        originals, recon: (N, C, H, W) in [0, 1], from the best to the worst.
        ssim: of each.
        names: what each column is called, for example "best: KEY".
    """
    figure, axes = start_figure(3, len(originals), width=2.1 * len(originals) + 1.0, height=7.4)
    rows = [originals, recon, recon.mean(1, keepdim=True) - originals.mean(1, keepdim=True)]
    for row, (images, label) in enumerate(zip(rows, ("original", "reconstruction", "difference"), strict=True)):
        limits = {"cmap": "gray", "vmin": 0, "vmax": 1} if row < 2 else {"cmap": "RdBu_r", "vmin": -0.3, "vmax": 0.3}
        for column, image in enumerate(images):
            shown = axes[row][column].imshow(to_picture(image), **limits)
            hide_ticks(axes[row][column])
        axes[row][0].set_ylabel(label)
    for column, (name, value) in enumerate(zip(names, ssim, strict=True)):
        axes[0][column].set_title(f"{name}\nSSIM {value:.3f}", fontsize=9)
    bar = figure.colorbar(shown, ax=[axes[2][column] for column in range(len(originals))], fraction=0.02, pad=0.01)
    bar.set_label("reconstruction - original", fontsize=8)
    figure.suptitle("Best, median and worst reconstructions by SSIM")
    return save_figure(figure, path)


def draw_codebook(usage: Tensor, *, perplexity: float, split: str, path: str | Path) -> Path:
    """Draw how often each code occurs, from the most to the least used.

    Args:
        usage: (K,) counts.
    """
    shares = np.sort(usage.double().numpy() / max(int(usage.sum()), 1))[::-1]
    used = int((shares > 0).sum())
    figure, axes = start_figure(1, 1, width=7, height=4)
    axis = axes[0][0]
    axis.bar(np.arange(len(shares)), 100 * shares, width=1.0, color=BLUE)
    axis.axhline(100 / len(shares), color="black", linestyle="--", linewidth=1, label="all codes alike")
    axis.set(xlabel="code, by rank", ylabel="share of the positions (%)", xlim=(-0.5, len(shares) - 0.5))
    axis.set_title(f"Codebook use on {split}: {used} of {len(shares)} codes, perplexity {perplexity:.0f}")
    axis.legend(frameon=False)
    return save_figure(figure, path)


def draw_losses(metrics_file: str | Path, path: str | Path) -> Path:
    """Draw the loss, and what else validate measures, of a run against its steps.

    Args:
        metrics_file: the run's metrics.jsonl.
    """
    lines = _read_metrics(Path(metrics_file))
    extra = [name for name in ("ssim", "ssim_brain", "bits_per_code") if _series(lines, "validate", name)[0].size]
    figure, axes = start_figure(1, 1 + len(extra), width=5.2 * (1 + len(extra)), height=4)
    for axis, name in zip(axes[0], ["loss", *extra], strict=True):
        for split, colour in (("train", GREY), ("validate", RED)):
            steps, values = _series(lines, split, name)
            if steps.size:
                marker = "o" if split == "validate" else None
                axis.plot(steps, values, color=colour, label=split, marker=marker, markersize=3, linewidth=1.2)
        axis.set(xlabel="step", ylabel=_AXIS_NAMES[name], title=_AXIS_NAMES[name])
        if name == "loss" and all((_series(lines, split, name)[1] > 0).all() for split in ("train", "validate")):
            axis.set_yscale("log")
        if axis.get_legend_handles_labels()[0]:
            axis.legend(frameon=False)
    return save_figure(figure, path)


def draw_rates(points: list[dict[str, Any]], path: str | Path) -> Path:
    """Draw rate against distortion over several models.

    Args:
        points: for each its "name", "bits_per_pixel" and "ssim", and "ssim_brain" or None.
    """
    figure, axes = start_figure(1, 1, width=7, height=4.6)
    axis = axes[0][0]
    for key, label, marker in (("ssim", "full frame", "o"), ("ssim_brain", "inside the brain", "s")):
        known = [point for point in points if point.get(key) is not None]
        if known:
            rates, values = [point["bits_per_pixel"] for point in known], [point[key] for point in known]
            axis.scatter(rates, values, label=label, marker=marker)
        for point in known:
            axis.annotate(point["name"], (point["bits_per_pixel"], point[key]), fontsize=7, xytext=(4, 3),
                          textcoords="offset points")  # fmt: skip
    axis.set(xlabel="bits per pixel of the code map", ylabel="SSIM", xscale="log", title="Rate against distortion")
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
    partial = path.with_name(f".{path.name}.tmp")
    figure.savefig(partial, format="png", metadata={"Software": None})
    partial.replace(path)
    return path


def to_picture(image: Tensor) -> npt.NDArray[np.float32]:
    """Return a (C, H, W) image as matplotlib shows it: (H, W) or (H, W, 3)."""
    pixels = image.detach().float().cpu().numpy()
    return pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)


def hide_ticks(axis: "Axes") -> None:
    """Take the ticks off a picture; its labels stay."""
    axis.set(xticks=[], yticks=[])


def _read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the whole lines of a metrics.jsonl; one cut off by a kill ends them."""
    lines = []
    for line in path.read_text().splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            break
    return lines


def _series(lines: list[dict[str, Any]], split: str, name: str) -> tuple[Values, Values]:
    pairs = [(line["step"], line[name]) for line in lines if line.get("split") == split and line.get(name) is not None]
    steps, values = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
    return steps, values
