"""Augmentation of training images: mirroring and cropping, drawn from the seed, the step and the position."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vqdist.config.augmentation import Mirror
from vqdist.config.schema import DataSection
from vqdist.foundation.seeds import derive_seed

# The axis of (..., H, W) that each mirroring reverses. Slices of vqdist have the subject's left at the top.
AXES: dict[Mirror, int] = {"up-down": -2, "left-right": -1}


def mirror_images(images: Tensor, mirror: Mirror) -> Tensor:
    """Mirror images (..., H, W); up-down reverses the order of the rows, left-right that of the columns."""
    return images.flip(AXES[mirror]) if mirror in AXES else images


class Change(NamedTuple):
    """The change of one image: a crop, given by its first row and column and its size, and a mirroring of the crop."""

    y: int
    x: int
    height: int
    width: int
    mirror: Mirror

    def apply(self, image: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return a view of an image (C, H, W): (C, height, width)."""
        part = image[:, self.y : self.y + self.height, self.x : self.x + self.width]
        return np.flip(part, AXES[self.mirror]) if self.mirror in AXES else part


@dataclass(frozen=True)
class Augmentation:
    """Mirrors a random half of the images of a step and crops all of them, as `data.mirror` and `data.crop` configure.

    The draws depend on the position in the global batch only, so any number of ranks trains on the same images. Images
    are changed where they are loaded: only the pixels of the crops are copied from there.
    """

    mirror: Mirror
    crop: int | None
    global_batch_size: int
    seed: int

    @classmethod
    def from_settings(cls, data: DataSection, *, seed: int) -> Self | None:
        """Return the augmentation of a run, None if it has none."""
        assert data.mirror != "auto", "chosen when the dataset was opened"
        assert data.crop != "auto", "chosen when the dataset was opened"
        if data.mirror == "none" and data.crop is None:
            return None
        return cls(data.mirror, data.crop, data.global_batch_size, seed)

    def shape(self, image_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape (C, height, width) of changed images of a shape (C, H, W)."""
        return image_shape if self.crop is None else (image_shape[0], self.crop, self.crop)

    def draw(self, step: int, positions: Sequence[int], image_shape: tuple[int, ...]) -> list[Change]:
        """Return the change of each image of a micro-batch.

        Args:
            step: from 1.
            positions: of the images in the global batch.
            image_shape: (C, H, W).
        """
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "augmentation", step))
        draws = torch.rand(self.global_batch_size, 3, generator=generator)[list(positions)]
        _, height, width = self.shape(image_shape)
        max_corner = torch.tensor(image_shape[1:]) - torch.tensor([height, width])
        corners = (draws[:, :2] * (max_corner + 1)).long().tolist()
        mirrored = (draws[:, 2] < 0.5).tolist()
        return [
            Change(y, x, height, width, self.mirror if flip else "none")
            for (y, x), flip in zip(corners, mirrored, strict=True)
        ]
