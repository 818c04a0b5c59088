"""The features that a PixelCNN reads from the code map of the previous slice.

Shapes: B maps, h w grid, C channels.
"""

import torch
from torch import Tensor, nn

from vqdist.models.gated_layers import GatedConvolutions
from vqdist.models.map_conditions import NO_CODE


class PreviousMap(GatedConvolutions):
    """Features of every place of a map from the map of the previous slice, read in every direction.

    The previous map is known as a whole before the first code is drawn, so that the convolutions need no mask.
    """

    LAYERS = 3

    def __init__(self, hidden: int, kernel: int, *, dropout: float) -> None:
        super().__init__(hidden, kernel, num_layers=self.LAYERS, dropout=dropout)
        self.nothing = nn.Parameter(torch.zeros(hidden))  # the features of a map without a previous one

    def read(self, previous: Tensor | None, embedding: nn.Embedding, *, drop: bool = True) -> Tensor:
        """Return the features of previous maps, (B, h, w, C), or (C,) without any.

        Args:
            previous: (B, h, w) int64, NO_CODE everywhere in a map that has no previous one.
            embedding: of the codes.
            drop: as in `forward`.
        """
        if previous is None:
            return self.nothing
        return self(embedding(previous.clamp(min=0)), previous[:, 0, 0] != NO_CODE, drop=drop)

    def forward(self, features: Tensor, is_known: Tensor, *, drop: bool = True) -> Tensor:
        """Return the features (B, h, w, C).

        Args:
            features: (B, h, w, C), the embedded codes of the previous maps.
            is_known: (B,) bool, False for a map without a previous one, whose features are not used.
            drop: False to disable dropout in training mode, for the sampler.
        """
        return torch.where(is_known[:, None, None, None], self.convolve(features, drop=drop), self.nothing)
