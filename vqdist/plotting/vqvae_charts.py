"""Diagrams with matplotlib: what a run learned and how well.

Each function writes one PNG and returns its path, so that a run's directory and W&B show the same.
"""

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from vqdist.plotting.curves import BLUE, save_figure, start_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes


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
        axes[0][column].set_title(f"{textwrap.fill(name, 28)}\nSSIM {value:.3f}", fontsize=9)
    bar = figure.colorbar(shown, ax=[axes[2][column] for column in range(len(originals))], fraction=0.02, pad=0.01)
    bar.set_label("reconstruction - original", fontsize=8)
    figure.suptitle("Best, median and worst reconstructions by SSIM")
    return save_figure(figure, path)


def draw_codebook(usage: Tensor, *, perplexity: float, split: str, path: str | Path) -> Path:
    """Draw how often each code occurs, from the most to the least used, on a logarithmic scale: one is the background.

    Args:
        usage: (K,) counts.
    """
    positions = max(int(usage.sum()), 1)
    shares = np.sort(usage.double().numpy() / positions)[::-1]
    used = int((shares > 0).sum())
    figure, axes = start_figure(1, 1, width=7, height=4)
    axis = axes[0][0]
    axis.bar(np.arange(len(shares)), 100 * shares, width=1.0, color=BLUE)
    # Of hundreds of bars the first lies behind the axis: a mark shows how high it is.
    axis.plot(0, 100 * shares[0], "ko", clip_on=False, label=f"most used code, {100 * shares[0]:.0f} %")
    axis.axhline(100 / len(shares), color="black", linestyle="--", linewidth=1, label="all codes alike")
    axis.set(xlabel="code, by rank", xlim=(-0.5, len(shares) - 0.5))
    axis.set(ylabel="share of the positions (%)", yscale="log", ylim=(50 / positions, 200))  # a code used once is seen
    axis.set_title(f"Codebook use on {split}: {used} of {len(shares)} codes, perplexity {perplexity:.0f}")
    axis.legend(frameon=False)
    return save_figure(figure, path)


def draw_rates(points: list[dict[str, Any]], *, split: str, path: str | Path) -> Path:
    """Draw rate against distortion of several models, full frame and inside the brain, each point with its name.

    Args:
        points: for each its "name", "bits_per_pixel" and "ssim", and "ssim_brain" where it is known.
    """
    figure, axes = start_figure(1, 2, width=11, height=4.8)
    for axis, (key, title) in zip(axes[0], (("ssim", "full frame"), ("ssim_brain", "inside the brain")), strict=True):
        known = sorted((point for point in points if point.get(key) is not None), key=lambda point: point[key])
        axis.scatter([point["bits_per_pixel"] for point in known], [point[key] for point in known], color=BLUE)
        for number, point in enumerate(known):
            # Names go left and right in turn, since models of one rate lie close together.
            side = {"xytext": (6, -3)} if number % 2 else {"xytext": (-6, -3), "ha": "right"}
            place = (point["bits_per_pixel"], point[key])
            name = axis.annotate(point["name"], place, fontsize=7, textcoords="offset points", **side)
            name.set_in_layout(False)  # a long path must not squeeze the diagram
        axis.set(xlabel="bits per pixel of the code map", ylabel=f"SSIM, {title}", xscale="log", title=title)
        rates = sorted({point["bits_per_pixel"] for point in known})
        axis.set_xticks(rates, [f"{rate:.3g}" for rate in rates], rotation=60)
        axis.set_xticks([], minor=True)
        axis.margins(x=0.35, y=0.08)
    figure.suptitle(f"Rate against distortion on {split}")
    return save_figure(figure, path)


def to_picture(image: Tensor) -> npt.NDArray[np.float32]:
    """Return a (C, H, W) image as matplotlib shows it: (H, W) or (H, W, 3)."""
    pixels = image.detach().float().cpu().numpy()
    return pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)


def hide_ticks(axis: "Axes") -> None:
    """Take the ticks off a picture; its labels stay."""
    axis.set(xticks=[], yticks=[])
