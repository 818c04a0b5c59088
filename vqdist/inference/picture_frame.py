"""The position of a picture in the square image of a model: padded with black, then resized."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from vqdist.data.sources.pictures import pad_to_square, resize, to_model_size


@dataclass(frozen=True)
class PictureFrame:
    """Conversion between a picture of `shape` (H, W) and the image of a model, (image_size, image_size)."""

    shape: tuple[int, ...]
    image_size: int

    @property
    def side(self) -> int:
        """The side of the padded picture."""
        return max(self.shape)

    @property
    def offset(self) -> tuple[int, int]:
        """Row and column of the picture in the padded one."""
        return (self.side - self.shape[0]) // 2, (self.side - self.shape[1]) // 2

    def to_model(self, pixels: npt.NDArray[np.uint8]) -> Tensor:
        """Return pixels (C, H, W) as an image (C, image_size, image_size) in [0, 1]."""
        planes = pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)
        return torch.from_numpy(np.array(to_model_size(planes, self.image_size))).float() / 255

    def mask_to_model(self, mask: npt.NDArray[np.bool_]) -> Tensor:
        """Return a mask (H, W) as (image_size, image_size) bool: True where the mask covers any part of a pixel."""
        size = (self.image_size, self.image_size)
        return torch.from_numpy(resize(pad_to_square(mask.astype(np.float32)), size) > 0)

    def from_model(self, images: Tensor) -> Tensor:
        """Return images (B, C, image_size, image_size) in the size of the picture, (B, C, H, W)."""
        if self.side != self.image_size:
            images = F.interpolate(images, (self.side, self.side), mode="bilinear", antialias=True)
        (top, left), (height, width) = self.offset, self.shape
        return images[..., top : top + height, left : left + width]
