"""Holes are filled by the solution of the Laplace equation, and pasted contents join without a step."""

import pytest
import torch

from vqdist.inference.hole_filling import fill_hole, paste_without_seam


def build_hole(size: int, top: int, bottom: int, left: int, right: int) -> torch.Tensor:
    hole = torch.zeros(size, size, dtype=torch.bool)
    hole[top:bottom, left:right] = True
    return hole


@pytest.mark.parametrize("box", [(10, 20, 12, 30), (0, 9, 5, 20), (30, 40, 30, 40), (3, 38, 4, 37)])
def test_a_harmonic_function_is_recovered(box: tuple[int, int, int, int]) -> None:
    rows, columns = torch.meshgrid(torch.linspace(0, 1, 40), torch.linspace(0, 1, 40), indexing="ij")
    harmonic = (0.3 + 0.4 * rows - 0.2 * columns)[None, None]
    inside = build_hole(40, *box)
    if 0 in box or 40 in box:  # at the edge of the image the slope across it is 0
        harmonic = (0.3 + 0.0 * rows - 0.0 * columns)[None, None]
    filled = fill_hole(torch.where(inside, 9.0, harmonic), inside)
    assert (filled - harmonic).abs().max() < 0.02


def test_pixels_outside_of_the_hole_stay_and_inside_do_not_matter() -> None:
    images, hole = torch.rand(2, 3, 40, 40), build_hole(40, 8, 21, 9, 22)
    filled = fill_hole(images, hole)
    assert torch.equal(filled[..., ~hole], images[..., ~hole])
    assert torch.equal(filled, fill_hole(torch.where(hole, 7.0, images), hole))
    low, high = images[..., ~hole].min(), images[..., ~hole].max()
    assert low <= filled.min() <= filled.max() <= high


def test_a_content_of_another_brightness_joins_the_border() -> None:
    images, hole = torch.full((1, 1, 40, 40), 0.6), build_hole(40, 10, 30, 10, 30)
    content = torch.full((2, 1, 40, 40), 0.4)
    content[1, :, 18:22, 18:22] = 0.1
    joined = paste_without_seam(images, content, hole)
    torch.testing.assert_close(joined[0], images[0], atol=1e-3, rtol=0)
    assert (joined[1, 0, 20, 20] - 0.3).abs() < 1e-3  # the structure of the content stays
    assert torch.equal(joined[:, :, ~hole], images.expand(2, 1, 40, 40)[:, :, ~hole])


def test_a_hole_of_the_whole_image_and_no_hole() -> None:
    image = torch.rand(1, 1, 12, 13)
    assert torch.equal(fill_hole(image, torch.zeros(12, 13, dtype=torch.bool)), image)
    assert torch.equal(fill_hole(image, torch.ones(12, 13, dtype=torch.bool)), torch.zeros_like(image))
