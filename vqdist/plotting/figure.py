"""Create and save matplotlib figures: the colours, layout and file format that all charts share."""

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from vqdist.foundation.atomic_files import write_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GREY, BLUE, GREEN, RED = "#9a9a9a", "#1f5fa8", "#2a9d6e", "#d1495b"
_DPI = 110


def start_figure(rows: int, columns: int, *, width: float, height: float) -> "tuple[Figure, npt.NDArray[Any]]":
    """Create a figure that needs no display.

    Args:
        width, height: in inches.
    Returns:
        The figure and its axes, shape (rows, columns).
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


def save_figure(figure: "Figure", path: str | Path) -> Path:
    """Write a figure atomically as PNG, create its folder, and return its path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    write_atomic(path, buffer.getvalue())
    return path


def to_matplotlib(image: Tensor) -> npt.NDArray[np.float32]:
    """Convert a (C, H, W) image to the shape that `imshow` expects: (H, W) or (H, W, 3)."""
    pixels = image.detach().float().cpu().numpy()
    return pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)


def hide_ticks(axis: "Axes") -> None:
    """Remove the ticks of an axis and keep its labels."""
    axis.set(xticks=[], yticks=[])
