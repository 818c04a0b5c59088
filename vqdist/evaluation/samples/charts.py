"""Charts of the comparison of samples with real slices."""

import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from vqdist.evaluation.samples.copies import NEAR_COPY, NearestSlices
from vqdist.evaluation.samples.slice_statistics import GREY_BINS, SPECTRUM_BINS, SliceStatistics
from vqdist.plotting.figure import BLUE, GREEN, GREY, RED, hide_ticks, save_figure, start_figure, to_matplotlib

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = {"train": GREY, "test": BLUE, "reconstructions": GREEN, "samples": RED}


def draw_nearest_slices(
    samples: Tensor, train: Tensor, *, ratios: Iterable[float], keys: Sequence[str], split: str, path: str | Path
) -> Path:
    """Draw samples above their nearest training slices.

    Args:
        samples, train: (N, C, H, W) in [0, 1].
        ratios: ratio of each distance to the median distance of the real slices of `split`.
        keys: of the training slices.
    """
    figure, axes = start_figure(2, len(samples), width=1.9 * len(samples) + 0.6, height=5.0)
    for column, (above, below, ratio, key) in enumerate(zip(samples, train, ratios, keys, strict=True)):
        for row, image in enumerate((above, below)):
            axes[row][column].imshow(to_matplotlib(image), cmap="gray", vmin=0, vmax=1)
            hide_ticks(axes[row][column])
        axes[0][column].set_title(f"distance {ratio:.2f}", fontsize=9)
        axes[1][column].set_xlabel(textwrap.fill(key, 34), fontsize=7)
    axes[0][0].set_ylabel("sample")
    axes[1][0].set_ylabel("nearest in train")
    figure.suptitle(f"Samples that come closest to a training slice (1 = median of real {split} slices)")
    return save_figure(figure, path)


def draw_sample_report(
    report: dict[str, Any],
    statistics: dict[str, SliceStatistics],
    nearest: dict[str, NearestSlices],
    *,
    split: str,
    path: str | Path,
) -> Path:
    """Draw the comparison of samples: feature distances, nearest training slices, grey values, power spectrum.

    Args:
        split: name of the real slices that "test" stands for in the report.
    """
    figure, axes = start_figure(2, 2, width=11, height=8)
    _draw_distances(axes[0][0], report["feature_distance"], split)
    _draw_nearest(axes[0][1], nearest, split)
    centres = (np.arange(GREY_BINS) + 0.5) / GREY_BINS
    cycles = (np.arange(SPECTRUM_BINS) + 0.5) / (2 * SPECTRUM_BINS)
    for name in ("train", "test", "reconstructions", "samples"):
        style = {"color": _COLOURS[name], "label": split if name == "test" else name, "linewidth": 1.6}
        axes[1][0].plot(centres, 100 * statistics[name].histogram.mean(axis=0), **style)
        axes[1][1].plot(cycles, 10 * np.log10(statistics[name].spectrum.mean(axis=0) + 1e-12), **style)
    axes[1][0].set(xlabel="grey value (0 black, 1 white)", ylabel="share of the pixels above 0.05 (%)")
    axes[1][0].set_title("Grey values")
    axes[1][1].set(xlabel="spatial frequency (cycles per pixel)", ylabel="mean power (dB)", title="Power spectrum")
    for axis in (axes[0][1], axes[1][0], axes[1][1]):
        axis.legend(frameon=False)
    figure.suptitle(f"{report['samples']} samples beside {len(statistics['test'])} real {split} slices")
    return save_figure(figure, path)


def _draw_distances(axis: "Axes", distances: dict[str, Any], split: str) -> None:
    names = ("train", "reconstructions", "samples")
    values = [distances[f"{name}_test"] for name in names]
    bars = axis.bar(names, values, color=[_COLOURS[name] for name in names])
    axis.bar_label(bars, [f"{value:.3f}" for value in values], fontsize=8)
    ratio = distances["ratio"]
    suffix = "" if ratio is None else f": samples {ratio:.1f} times train"
    axis.set(ylabel="energy distance", title=f"Feature distance to {split}{suffix}")
    axis.margins(y=0.15)


def _draw_nearest(axis: "Axes", nearest: dict[str, NearestSlices], split: str) -> None:
    reference = float(np.median(nearest["test"].distance))
    edges = np.linspace(0, max(float(found.distance.max()) for found in nearest.values()), 41)
    for name, found in nearest.items():
        shares = 100 * np.histogram(found.distance, edges)[0] / len(found.distance)
        axis.stairs(shares, edges, color=_COLOURS[name], label=split if name == "test" else name, linewidth=1.6)
    axis.axvline(NEAR_COPY * reference, color="black", linestyle="--", linewidth=1, label="near copy")
    axis.set(xlabel="root mean square difference", ylabel="share of the slices (%)")
    axis.set_title("Distance to the nearest training slice")
