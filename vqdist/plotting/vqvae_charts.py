"""Charts of a trained VQ-VAE: reconstructions, codebook usage, rate against distortion.

Each function writes one PNG and returns its path.
"""

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from vqdist.plotting.figure import BLUE, hide_ticks, save_figure, start_figure, to_matplotlib


def draw_reconstructions(
    originals: Tensor, recon: Tensor, *, ssim: list[float], names: list[str], path: str | Path
) -> Path:
    """Draw one column per slice: original, reconstruction and their difference.

    Args:
        originals, recon: shape (N, C, H, W), in [0, 1], in descending order of SSIM.
        ssim: the SSIM of each slice.
        names: the title of each column, for example "best: KEY".
    """
    figure, axes = start_figure(3, len(originals), width=2.1 * len(originals) + 1.0, height=7.4)
    rows = [originals, recon, recon.mean(1, keepdim=True) - originals.mean(1, keepdim=True)]
    for row, (images, label) in enumerate(zip(rows, ("original", "reconstruction", "difference"), strict=True)):
        limits = {"cmap": "gray", "vmin": 0, "vmax": 1} if row < 2 else {"cmap": "RdBu_r", "vmin": -0.3, "vmax": 0.3}
        for column, image in enumerate(images):
            shown = axes[row][column].imshow(to_matplotlib(image), **limits)
            hide_ticks(axes[row][column])
        axes[row][0].set_ylabel(label)
    for column, (name, value) in enumerate(zip(names, ssim, strict=True)):
        axes[0][column].set_title(f"{textwrap.fill(name, 28)}\nSSIM {value:.3f}", fontsize=9)
    bar = figure.colorbar(shown, ax=[axes[2][column] for column in range(len(originals))], fraction=0.02, pad=0.01)
    bar.set_label("reconstruction - original", fontsize=8)
    figure.suptitle("Best, median and worst reconstructions by SSIM")
    return save_figure(figure, path)


def draw_codebook_usage(usage: Tensor, *, perplexity: float, split: str, path: str | Path) -> Path:
    """Draw the share of each code in descending order, on a logarithmic scale because one code is the background.

    Args:
        usage: shape (K,), how often each code occurs.
        perplexity, split: of the usage, shown in the title.
    """
    positions = max(int(usage.sum()), 1)
    shares = np.sort(usage.double().numpy() / positions)[::-1]
    used = int((shares > 0).sum())
    figure, axes = start_figure(1, 1, width=7, height=4)
    axis = axes[0][0]
    axis.bar(np.arange(len(shares)), 100 * shares, width=1.0, color=BLUE)
    # With hundreds of bars, the axis hides the first one: a marker shows its height.
    axis.plot(0, 100 * shares[0], "ko", clip_on=False, label=f"most used code, {100 * shares[0]:.0f} %")
    axis.axhline(100 / len(shares), color="black", linestyle="--", linewidth=1, label="uniform usage")
    axis.set(xlabel="code, by rank", xlim=(-0.5, len(shares) - 0.5))
    # The lower limit is half the share of a code that is used once.
    axis.set(ylabel="share of the positions (%)", yscale="log", ylim=(50 / positions, 100))
    axis.set_title(f"Codebook usage on {split}: {used} of {len(shares)} codes, perplexity {perplexity:.0f}")
    axis.legend(frameon=False)
    return save_figure(figure, path)


def draw_rate_distortion(points: list[dict[str, Any]], *, split: str, path: str | Path) -> Path:
    """Draw SSIM over bits per pixel of several models, over the full frame and, if known, inside the brain.

    Args:
        points: one dict per model with "name", "bits_per_pixel", "ssim" and, if known, "ssim_brain".
    """
    titles = {"ssim": "full frame", "ssim_brain": "inside the brain"}
    shown = [key for key in titles if any(point.get(key) is not None for point in points)] or ["ssim"]
    figure, axes = start_figure(1, len(shown), width=5.5 * len(shown), height=4.8)
    for axis, key in zip(axes[0], shown, strict=True):
        known = sorted((point for point in points if point.get(key) is not None), key=lambda point: point[key])
        axis.scatter([point["bits_per_pixel"] for point in known], [point[key] for point in known], color=BLUE)
        for number, point in enumerate(known):
            # Alternate sides, because models of the same rate lie close together.
            side = {"xytext": (6, -3)} if number % 2 else {"xytext": (-6, -3), "ha": "right"}
            position = (point["bits_per_pixel"], point[key])
            name = axis.annotate(point["name"], position, fontsize=7, textcoords="offset points", **side)
            name.set_in_layout(False)  # otherwise a long name shrinks the axes
        axis.set(
            xlabel="bits per pixel of the code map", ylabel=f"SSIM, {titles[key]}", xscale="log", title=titles[key]
        )
        rates = sorted({point["bits_per_pixel"] for point in known})
        axis.set_xticks(rates, [f"{rate:.3g}" for rate in rates], rotation=60)
        axis.set_xticks([], minor=True)
        axis.margins(x=0.35, y=0.08)
    figure.suptitle(f"Rate against distortion on {split}")
    return save_figure(figure, path)
