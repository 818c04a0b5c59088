"""The figures of `vqdist score`: slices beside maps and restored slices, and precision-recall curves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from vqdist.metrics.detection import Curve, Detection
from vqdist.plotting.figure import hide_ticks, save_figure, start_figure, to_matplotlib

MAX_ROWS = 8
_POINTS = 500


@dataclass(frozen=True)
class MapExample:
    """A row of the figure.

    Attributes:
        image, restored: (C, S, S) in [0, 1].
        anomaly: (S, S) in [0, 1].
        truth: (S, S) bool; None without masks.
    """

    title: str
    image: Tensor
    anomaly: Tensor
    restored: Tensor
    truth: Tensor | None


def draw_examples(examples: Sequence[MapExample], path: Path) -> Path:
    """Draw slice, map, restored slice and, where there are masks, the truth, a row per slice."""
    names = ["slice", "map", "restored"] + ["truth"] * any(example.truth is not None for example in examples)
    figure, axes = start_figure(len(examples), len(names), width=2.2 * len(names), height=2.3 * len(examples))
    for row, example in zip(axes, examples, strict=True):
        pictures = [to_matplotlib(example.image), example.anomaly.numpy(), to_matplotlib(example.restored)]
        if len(names) > len(pictures):
            pictures.append(np.zeros_like(pictures[1]) if example.truth is None else example.truth.float().numpy())
        for axis, picture, name in zip(row, pictures, names, strict=True):
            axis.imshow(picture, cmap="magma" if name == "map" else "gray", vmin=0, vmax=1)
            axis.set_title(f"{example.title}" if name == "slice" else name, fontsize=7)
            hide_ticks(axis)
    return save_figure(figure, path)


def draw_precision_recall(curves: Mapping[str, tuple[Curve, Detection]], path: Path) -> Path:
    """Draw precision against recall of the pixels for each method."""
    figure, axes = start_figure(1, 1, width=6, height=4.5)
    axis = axes[0, 0]
    for name, (curve, found) in curves.items():
        recall, precision = curve.recall, curve.precision
        chosen = np.unique(np.searchsorted(recall, np.linspace(0, 1, _POINTS)).clip(max=max(len(recall) - 1, 0)))
        label = f"{name.replace('_', ' ')}, AP {float(found.ap):.3f}"
        axis.plot(recall[chosen], precision[chosen], label=label, linewidth=2 if name == "map" else 1)
    axis.set(xlabel="recall of lesion pixels", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    axis.legend(fontsize=7)
    return save_figure(figure, path)
