"""Figures are created without a display and written atomically."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vqdist.plotting.figure import hide_ticks, save_figure, start_figure, to_matplotlib


def test_figure_is_written_in_its_size_to_a_new_folder(tmp_path: Path) -> None:
    figure, axes = start_figure(2, 3, width=4, height=3)
    assert axes.shape == (2, 3)
    hide_ticks(axes[0][0])
    assert (len(axes[0][0].get_xticks()), len(axes[1][0].get_xticks()) > 0) == (0, True)
    path = save_figure(figure, tmp_path / "new" / "figure.png")
    with Image.open(path) as picture:
        assert (picture.format, picture.size) == ("PNG", (440, 330))
    assert [item.name for item in path.parent.iterdir()] == ["figure.png"]


@pytest.mark.parametrize(("channels", "shape"), [(1, (4, 6)), (3, (4, 6, 3))])
def test_images_in_the_layout_of_matplotlib(channels: int, shape: tuple[int, ...]) -> None:
    image = torch.rand(channels, 4, 6, dtype=torch.float64)
    pixels = to_matplotlib(image)
    assert (pixels.shape, pixels.dtype) == (shape, np.float32)
    np.testing.assert_allclose(pixels.reshape(4, 6, channels), image.permute(1, 2, 0), rtol=1e-6)
