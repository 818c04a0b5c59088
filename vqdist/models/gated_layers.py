"""The layers of the gated PixelCNN (van den Oord et al. 2016): gated layers, context and symmetry; channels last.

Shapes: B maps, h w grid, C channels of both stacks.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqdist.config.attributes import Attributes
from vqdist.models.attribute_encoder import AttributeEncoder
from vqdist.models.map_conditions import UNKNOWN_NUMBER, MapConditions
from vqdist.models.waves import encode_waves

# Half periods over the map and over the range of slices; the highest one separates single codes of a 32 x 32 map.
POSITION_FREQUENCIES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
SLICE_FREQUENCIES = (1, 2, 3, 4, 6, 8, 12, 16)


class GatedLayer(nn.Module):
    """One masked gated layer of the vertical and the horizontal stack; 2016, figure 2.

    The first layer excludes the code at the position itself. Its output does not depend on that code, so that
    later layers include the position and have residual connections. Kernels are causal by their shape.

    Args:
        first: whether this is the first layer.
    """

    def __init__(self, hidden: int, kernel: int, *, first: bool, dropout: float) -> None:
        super().__init__()
        self.reach = kernel // 2
        self.first = first
        size = self.reach if first else self.reach + 1
        self.vertical = nn.Conv2d(hidden, 2 * hidden, (size, kernel), padding=(0, self.reach))
        self.horizontal = nn.Conv2d(hidden, 2 * hidden, (1, size), bias=False)
        self.across = nn.Linear(hidden, 2 * hidden)
        self.out = nn.Linear(hidden, hidden, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, above: Tensor, left: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features of both stacks, each (B, h, w, C), after this layer.

        Args:
            above: (B, h, w, C), features of the vertical stack.
            left: (B, h, w, C), features of the horizontal stack.
            context: (B or 1, h, w, C); the first layer adds it in place of a residual connection.
        """
        crop = -1 if self.first else 0
        rows = F.pad(above, (0, 0, 0, 0, self.reach, crop))
        codes = F.pad(left, (0, 0, self.reach, crop))
        gated = self.dropout(gate(convolve(self.vertical, rows)))
        above = gated + (context if self.first else above)
        gated = self.dropout(gate(convolve(self.horizontal, codes) + self.across(above)))
        left = self.out(gated) + (context if self.first else left)
        return above, left


class Context(nn.Module):
    """Features known before any code: the position in the map, and the conditions of the map.

    Position and slice number are encoded as sines and cosines: any grid is valid, and neighbouring slices share
    features. A condition that is unknown adds nothing.

    Args:
        condition: names of the conditions.
        attributes: those of the conditions that are neither label nor slice number.
    """

    position_frequencies: Tensor
    slice_frequencies: Tensor

    def __init__(
        self,
        hidden: int,
        *,
        condition: str | Sequence[str],
        num_labels: int,
        num_slices: int,
        attributes: Attributes | None = None,
    ) -> None:
        super().__init__()
        self.num_slices = num_slices
        # Buffers, which are on the device: a tensor made in every forward pass would be copied there each time.
        self.register_buffer("position_frequencies", torch.tensor(POSITION_FREQUENCIES), persistent=False)
        self.register_buffer("slice_frequencies", torch.tensor(SLICE_FREQUENCIES), persistent=False)
        self.place = nn.Linear(4 * len(POSITION_FREQUENCIES), 2 * hidden)
        self.label = nn.Embedding(num_labels, 2 * hidden) if "label" in condition else None
        self.slice = nn.Linear(2 * len(SLICE_FREQUENCIES), 2 * hidden, bias=False) if "slice" in condition else None
        self.names = tuple(attributes or {})
        self.attributes = nn.ModuleList(AttributeEncoder(found, 2 * hidden) for found in (attributes or {}).values())
        self.out = nn.Linear(2 * hidden, hidden)

    def rows(
        self,
        h: int,
        w: int,
        known: MapConditions,
        *,
        first: int = 0,
        last: int | None = None,
    ) -> Tensor:
        """Return the context of rows [first, last) of an h x w map: (B or 1, rows, w, C).

        Args:
            known: those that the model is conditioned on, on its device.
            last: None for h.
        """
        weight = self.place.weight
        row = (torch.arange(first, h if last is None else last, device=weight.device) + 0.5) / h
        column = (torch.arange(w, device=weight.device) + 0.5) / w
        row_part, column_part = self.place.weight.chunk(2, dim=1)
        hidden = (
            F.linear(encode_waves(row, self.position_frequencies).to(weight), row_part, self.place.bias)[:, None]
            + F.linear(encode_waves(column, self.position_frequencies).to(weight), column_part)[None]
        )[None]  # (1, rows, w, 2 C)
        if self.label is not None and known.label is not None:
            features = self.label(known.label.clamp(min=0))
            hidden = hidden + _hide(features, known.label)[:, None, None]
        if self.slice is not None and known.slice is not None:
            share = (known.slice + 0.5) / self.num_slices
            features = self.slice(encode_waves(share, self.slice_frequencies).to(weight))
            hidden = hidden + _hide(features, known.slice)[:, None, None]
        for name, encoder in zip(self.names, self.attributes, strict=True):
            hidden = hidden + encoder(known.attributes[name])[:, None, None]
        return self.out(F.silu(hidden))


class GatedConvolutions(nn.Module):
    """Residual layers of gated convolutions without a mask, for codes that are known before those that they predict.

    Args:
        num_layers: number of layers.
    """

    def __init__(self, hidden: int, kernel: int, *, num_layers: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv2d(hidden, 2 * hidden, kernel, padding=kernel // 2) for _ in range(num_layers)
        )
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(hidden, hidden)

    def convolve(self, features: Tensor, *, drop: bool) -> Tensor:
        """Return the features after all layers, (B, h, w, C).

        Args:
            features: (B, h, w, C).
            drop: False to disable dropout in training mode.
        """
        for layer in self.layers:
            assert isinstance(layer, nn.Conv2d)
            gated = gate(convolve(layer, features))
            features = features + (self.dropout(gated) if drop else gated)
        return self.out(features)


class MirroredRows(GatedConvolutions):
    """Features for the rows below the middle of a map from the rows above it, mirrored.

    In raster order all rows above the middle come before those below, so that the convolutions need no mask.
    """

    LAYERS = 2

    def __init__(self, hidden: int, kernel: int, *, dropout: float) -> None:
        super().__init__(hidden, kernel, num_layers=self.LAYERS, dropout=dropout)

    def forward(self, features: Tensor, *, drop: bool = True) -> Tensor:
        """Return the features of the last h // 2 rows, (B, h // 2, w, C).

        Args:
            features: (B, h // 2, w, C), the embedded codes of the first h // 2 rows.
            drop: False to disable dropout in training mode, for the sampler.
        """
        return self.convolve(features, drop=drop).flip(1)


def gate(features: Tensor) -> Tensor:
    """Return tanh of the first half of the channels times the sigmoid of the second half; 2016, eq. 2."""
    values, gates = features.chunk(2, dim=-1)
    return torch.tanh(values) * torch.sigmoid(gates)


def _hide(features: Tensor, numbers: Tensor) -> Tensor:
    """Return features (B, F) with those of unknown numbers (B,) set to 0."""
    return torch.where(numbers[:, None] == UNKNOWN_NUMBER, torch.zeros_like(features), features)


def convolve(conv: nn.Conv2d, features: Tensor) -> Tensor:
    """Apply a convolution to features (B, h, w, C), channels last."""
    # (B, h, w, C) permuted is an NCHW tensor in channels_last layout: no copy.
    return conv(features.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
