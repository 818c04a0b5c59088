"""More maps of a train slice for the prior: the slice mirrored and shifted before it is encoded.

A VQ-VAE cuts a slice by a fixed grid, so that a shift of a few pixels gives other codes for the same anatomy.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vqdist.config.schema import Mirror
from vqdist.data.augmentation import mirror_images
from vqdist.foundation.seeds import derive_seed


@dataclass(frozen=True)
class View:
    """One way to look at a slice.

    Attributes:
        number: among the views of its slice; 0 is the slice itself.
        down, right: pixels that it is moved by; what comes in is 0, as the background.
    """

    number: int = 0
    mirror: Mirror = "none"
    down: int = 0
    right: int = 0

    def apply(self, image: Tensor) -> Tensor:
        """Return the image, (C, H, W), as it is seen."""
        seen = mirror_images(image, self.mirror)
        if not (self.down or self.right):
            return seen
        moved = torch.zeros_like(seen)
        here, there = _overlap(self.down, image.shape[1]), _overlap(self.right, image.shape[2])
        moved[:, here[0], there[0]] = seen[:, here[1], there[1]]
        return moved

    def name(self, key: str) -> str:
        """Return the key of the view of a sample."""
        return f"{key}-view{self.number}" if self.number else key

    def describe(self, key: str, info: dict[str, Any]) -> dict[str, Any]:
        """Return what is known of a sample, and of its view. A sample without a subject is its views' subject."""
        if not self.number:
            return info
        seen = {"mirror": self.mirror, "shift": [self.down, self.right]}
        return {**info, "subject": info.get("subject") or key, "view": seen}


def _overlap(offset: int, size: int) -> tuple[slice, slice]:
    """Return where pixels go to and where they come from along one side."""
    return slice(max(offset, 0), size + min(offset, 0)), slice(max(-offset, 0), size - max(offset, 0))


@dataclass(frozen=True)
class Views:
    """How many views of a slice, and what they are.

    Attributes:
        shift: how far they are moved at most, in pixels, up, down and to the sides.
        mirror: how odd ones are mirrored.
    """

    number: int = 1
    shift: int = 0
    mirror: Mirror = "rows"

    def choose(self, key: str, number: int) -> View:
        """Return a view of a sample: 0 is the slice itself, all others are moved at random, odd ones mirrored too."""
        if number == 0:
            return View()
        rng = np.random.default_rng(derive_seed(0, "view", key, number))
        down, right = rng.integers(-self.shift, self.shift, size=2, endpoint=True).tolist()
        return View(number, self.mirror if number % 2 == 1 else "none", down, right)
