"""Augmented views of a slice: mirrored and shifted copies that are encoded as additional training data of the prior.

A VQ-VAE divides a slice by a fixed grid, so a shift of a few pixels gives different codes for the same anatomy.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vqdist.config.augmentation import Mirror
from vqdist.data.augmentation import mirror_images
from vqdist.foundation.seeds import derive_seed


@dataclass(frozen=True)
class View:
    """One view of a slice.

    Attributes:
        number: index among the views of the slice; 0 is the slice itself.
        down, right: shift in pixels; pixels shifted in from outside are 0, as the background is.
    """

    number: int = 0
    mirror: Mirror = "none"
    down: int = 0
    right: int = 0

    def apply(self, image: Tensor) -> Tensor:
        """Return the view of an image, (C, H, W)."""
        mirrored = mirror_images(image, self.mirror)
        if not (self.down or self.right):
            return mirrored
        shifted = torch.zeros_like(mirrored)
        rows, columns = _overlap(self.down, image.shape[1]), _overlap(self.right, image.shape[2])
        shifted[:, rows[0], columns[0]] = mirrored[:, rows[1], columns[1]]
        return shifted

    def name(self, key: str) -> str:
        """Return the key of the view of a sample."""
        return f"{key}-view{self.number}" if self.number else key

    def describe(self, key: str, info: dict[str, Any]) -> dict[str, Any]:
        """Return the JSON of the view of a sample. The views of a sample without a subject get its key as subject."""
        if not self.number:
            return info
        view = {"mirror": self.mirror, "shift": [self.down, self.right]}
        return {**info, "subject": info.get("subject") or key, "view": view}


def _overlap(offset: int, size: int) -> tuple[slice, slice]:
    """Return the target and the source pixels of a shift along one side."""
    return slice(max(offset, 0), size + min(offset, 0)), slice(max(-offset, 0), size - max(offset, 0))


@dataclass(frozen=True)
class Views:
    """The views of every slice.

    Attributes:
        number: of views per slice, with the slice itself.
        shift: largest shift in pixels, up, down, left and right.
        mirror: how every second view is mirrored.
    """

    number: int = 1
    shift: int = 0
    mirror: Mirror = "none"

    def choose(self, subject: str, number: int) -> View:
        """Return a view of a subject's slices: view 0 is the slice itself, the others are shifted, odd ones mirrored.

        The shift is random and depends only on the subject and the number, so that the slices of a volume stay
        neighbours in each view.
        """
        if number == 0:
            return View()
        rng = np.random.default_rng(derive_seed(0, "view", subject, number))
        down, right = rng.integers(-self.shift, self.shift, size=2, endpoint=True).tolist()
        return View(number, self.mirror if number % 2 == 1 else "none", down, right)
