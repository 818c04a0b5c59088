"""Charts of the comparison of samples with real slices."""

import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from vqdist.evaluation.samples.copy_search import NearestSlices
from vqdist.evaluation.samples.slice_statistics import GREY_BINS, SPECTRUM_BINS, SliceStatistics
from vqdist.plotting.figure import BLUE, GREEN, GREY, RED, hide_ticks, save_figure, start_figure, to_matplotlib

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_AREAS = {"brain_area": "Brain", "ventricle_area": "Fluid in the inner brain"}
_COLOURS = {"train": GREY, "test": BLUE, "reconstructions": GREEN, "samples": RED}


def draw_nearest_slices(
    samples: Tensor,
    train: Tensor,
    *,
    similarities: Iterable[float],
    limit: float,
    keys: Sequence[str],
    path: str | Path,
) -> Path:
    """Draw samples above their most similar training slices.

    Args:
        samples, train: (N, C, H, W) in [0, 1].
        similarities: of each sample to its training slice, at most 1.
        limit: similarity of a near copy.
        keys: of the training slices.
    """
    figure, axes = start_figure(2, len(samples), width=1.9 * len(samples) + 0.6, height=5.0)
    columns = zip(samples, train, similarities, keys, strict=True)
    for column, (above, below, similarity, key) in enumerate(columns):
        for row, image in enumerate((above, below)):
            axes[row][column].imshow(to_matplotlib(image), cmap="gray", vmin=0, vmax=1)
            hide_ticks(axes[row][column])
        axes[0][column].set_title(f"similarity {similarity:.2f}", fontsize=9)
        axes[1][column].set_xlabel(textwrap.fill(key, 34), fontsize=7)
    axes[0][0].set_ylabel("sample")
    axes[1][0].set_ylabel("nearest in train")
    figure.suptitle(f"Samples that are most similar to a training slice (near copies: above {limit:.2f})")
    return save_figure(figure, path)


def draw_sample_report(
    report: dict[str, Any],
    statistics: dict[str, SliceStatistics],
    nearest: dict[str, NearestSlices],
    *,
    split: str,
    path: str | Path,
) -> Path:
    """Draw the comparison of samples: feature distances, similarities, areas by slice number, grey values, spectrum.

    Args:
        split: name of the real slices that "test" stands for in the report.
    """
    areas = _AREAS if "anatomy_by_slice" in report else {}  # none of pictures that are no brains
    columns = 3 if areas else 2
    figure, axes = start_figure(2, columns, width=16 * columns / 3, height=8)
    _draw_distances(axes[0][0], report["feature_distance"], split)
    _draw_nearest(axes[0][1], nearest, report["copies"]["limits"]["whole"], split)
    for row, (area, title) in enumerate(areas.items()):
        _draw_by_slice_number(axes[row][2], report["anatomy_by_slice"]["means"], area, split)
        axes[row][2].set(xlabel="slice number", ylabel="mean share", title=title)
    centres = (np.arange(GREY_BINS) + 0.5) / GREY_BINS
    cycles = (np.arange(SPECTRUM_BINS) + 0.5) / (2 * SPECTRUM_BINS)
    for name in ("train", "test", "reconstructions", "samples"):
        style = {"color": _COLOURS[name], "label": split if name == "test" else name, "linewidth": 1.6}
        axes[1][0].plot(centres, 100 * statistics[name].histogram.mean(axis=0), **style)
        axes[1][1].plot(cycles, 10 * np.log10(statistics[name].spectrum.mean(axis=0) + 1e-12), **style)
    axes[1][0].set(xlabel="grey value (0 black, 1 white)", ylabel="share of the pixels above 0.05 (%)")
    axes[1][0].set_ylim(0, min(100, axes[1][0].get_ylim()[1]))
    axes[1][0].set_title("Grey values")
    axes[1][1].set(xlabel="spatial frequency (cycles per pixel)", ylabel="mean power (dB)", title="Power spectrum")
    for axis in (*axes[0][1:], *axes[1]):
        if axis.get_legend_handles_labels()[0]:
            axis.legend(frameon=False)
    figure.suptitle(f"{report['samples']} samples beside {len(statistics['test'])} real {split} slices")
    return save_figure(figure, path)


def _draw_distances(axis: "Axes", distances: dict[str, Any], split: str) -> None:
    pairs = {"train_test": "train", "reconstructions_test": "reconstructions", "samples_test": "samples"}
    shown = {name: distances[pair] for pair, name in pairs.items() if distances[pair]["mean"] is not None}
    missing = [name for name in pairs.values() if name not in shown]
    bars = axis.bar(list(shown), [found["mean"] for found in shown.values()], color=[_COLOURS[name] for name in shown])
    axis.bar_label(bars, [f"{found['mean']:.3f}" for found in shown.values()], fontsize=8)
    for place, found in enumerate(shown.values()):
        if found["low"] is not None:
            axis.vlines(place, found["low"], found["high"], color="black", linewidth=1)
    axis.set(ylabel="energy distance", title=f"Feature distance to {split}, 95 % interval")
    axis.margins(y=0.15)
    if missing:  # without all bars it is the split that has too few
        axis.set_xlabel(f"{', '.join(missing) if shown else split}: too few subjects")


def _draw_nearest(axis: "Axes", nearest: dict[str, NearestSlices], limit: float, split: str) -> None:
    edges = np.linspace(min(0.0, *(float(found.whole.min()) for found in nearest.values())), 1, 51)
    for name, found in nearest.items():
        shares = 100 * np.histogram(found.whole, edges)[0] / len(found)
        axis.stairs(shares, edges, color=_COLOURS[name], label=split if name == "test" else name, linewidth=1.6)
    axis.set_ylim(0, min(100, axis.get_ylim()[1]))
    axis.axvline(limit, color="black", linestyle="--", linewidth=1, label="near copy")
    axis.set(xlabel="similarity, at most 1", ylabel="share of the slices (%)")
    axis.set_title("Most similar training slice")


def _draw_by_slice_number(axis: "Axes", means: list[dict[str, Any]], area: str, split: str) -> None:
    """Draw the mean of an area at each slice number, of train with its deviation between slices."""
    for name in ("train", "test", "samples"):
        rows = [row for row in means if row["group"] == name]
        numbers, values = ([row[key] for row in rows] for key in ("slice", area))
        if not rows:
            continue
        axis.plot(numbers, values, color=_COLOURS[name], label=split if name == "test" else name, linewidth=1.6)
        if name == "train":
            deviations = np.array([row[f"{area}_deviation"] for row in rows])
            axis.fill_between(numbers, values - deviations, values + deviations, color=GREY, alpha=0.3, linewidth=0)
