"""Pictures are padded and resized to the model's image, and back."""

import numpy as np
import pytest
import torch

from vqdist.inference.picture_frame import PictureFrame


def draw(height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return np.clip(60 + rows * 80 / height + columns * 90 / width, 0, 255).round().astype(np.uint8)[None]


@pytest.mark.parametrize("shape", [(32, 32), (64, 64), (40, 30), (21, 50)])
def test_there_and_back(shape: tuple[int, int]) -> None:
    pixels = draw(*shape)
    frame = PictureFrame(shape, 32)
    image = frame.to_model(pixels)
    assert image.shape == (1, 32, 32)
    back = frame.from_model(image[None])[0, 0]
    assert back.shape == shape
    middle = (slice(shape[0] // 4, -shape[0] // 4), slice(shape[1] // 4, -shape[1] // 4))
    assert (back[middle] - torch.from_numpy(pixels[0] / 255)[middle]).abs().max() < 0.03


def test_a_picture_of_the_models_size_is_not_changed() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32), np.uint8)
    frame = PictureFrame((32, 32), 32)
    assert torch.equal(frame.to_model(pixels), torch.from_numpy(pixels).float() / 255)
    assert torch.equal(frame.from_model(frame.to_model(pixels)[None])[0], frame.to_model(pixels))


def test_a_mask_covers_every_pixel_that_it_touches() -> None:
    mask = np.zeros((64, 50), bool)
    mask[20, 31] = True
    covered = PictureFrame((64, 50), 32).mask_to_model(mask)
    assert covered[10, (31 + 7) // 2]
    assert 1 <= covered.sum() <= 9
