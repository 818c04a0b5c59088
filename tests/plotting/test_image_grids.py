"""Image grids: every image is in its cell, and files are written atomically."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vqdist.plotting import image_grids
from vqdist.plotting.image_grids import GAP_PIXELS as GAP


@pytest.mark.parametrize("channels", [1, 3])
def test_every_image_is_in_its_cell(tmp_path: Path, channels: int) -> None:
    images = torch.rand(5, channels, 6, 4, generator=torch.Generator().manual_seed(0))
    path = image_grids.save_grid(images, tmp_path / "new" / "grid.png", columns=3)
    with Image.open(path) as picture:
        assert picture.mode == {1: "L", 3: "RGB"}[channels]
        pixels = np.asarray(picture).reshape(2 * (6 + GAP) + GAP, 3 * (4 + GAP) + GAP, channels)
    expected = (images.numpy() * 255).round()
    for index in range(5):
        top, left = GAP + index // 3 * (6 + GAP), GAP + index % 3 * (4 + GAP)
        cell = pixels[top : top + 6, left : left + 4].transpose(2, 0, 1)
        np.testing.assert_array_equal(cell, expected[index])
    assert [item.name for item in path.parent.iterdir()] == ["grid.png"]


def test_values_outside_the_range_are_clipped() -> None:
    pixels = image_grids.to_uint8(torch.tensor([-0.5, 0.0, 0.5, 1.0, 7.0]))
    assert pixels.tolist() == [0, 0, 128, 255, 255]


def test_reconstructions_are_below_their_originals() -> None:
    originals = torch.arange(5).view(5, 1, 1, 1).expand(5, 1, 3, 3) / 10
    picture = image_grids.build_pairs(originals, originals + 0.5, columns=2)[0]
    assert picture.shape == (3 * (2 * (3 + GAP) + GAP), 2 * (3 + GAP) + GAP)
    block = 2 * (3 + GAP) + GAP
    for index in range(5):
        top, left = index // 2 * block + GAP, index % 2 * (3 + GAP) + GAP
        below = top + 3 + GAP
        assert picture[top, left] == round(index / 10 * 255)
        assert picture[below, left] == round((index / 10 + 0.5) * 255)
