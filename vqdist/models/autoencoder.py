"""Encoder and decoder of the VQ-VAE: the layers of van den Oord et al. 2017, and a quicker shape of them.

Shapes: B batch, C channels, H W image, h w latent grid, D code size.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from vqdist.models.upsample import Upsample


class Residual(nn.Module):
    """ReLU, 3x3, ReLU, 1x1, added to the input; 2017, section 4.1."""

    def __init__(self, hidden: int, residual_hidden: int) -> None:
        super().__init__()
        self.spread = nn.Conv2d(hidden, residual_hidden, 3, padding=1)
        self.gather = nn.Conv2d(residual_hidden, hidden, 1)

    def forward(self, features: Tensor) -> Tensor:
        """(B, hidden, h, w) to the same shape."""
        return features + self.gather(F.relu_(self.spread(F.relu(features))))


@dataclass(frozen=True)
class Sizes:
    """The layers of encoder and decoder, which mirror each other; the arguments of VQVAE."""

    channels: int
    hidden: int
    residual_hidden: int
    residual_layers: int
    fine_layers: int
    downsample: int
    patch: int
    code_dim: int

    @property
    def widths(self) -> list[int]:
        """Channels at each resolution, from the image (or its patches) to the latent grid."""
        halvings = int(math.log2(self.downsample // self.patch))
        if self.patch == 1:
            return [self.channels, self.hidden // 2, *[self.hidden] * (halvings - 1)]
        return [self.channels * self.patch**2, *[max(self.hidden >> level, 1) for level in range(halvings, -1, -1)]]

    def build_residuals(self, width: int, layers: int) -> nn.Sequential:
        """Return residual layers, whose inner width keeps its share of the outer one."""
        inner = max(self.residual_hidden * width // self.hidden, 1)
        return nn.Sequential(*[Residual(width, inner) for _ in range(layers)])

    def build_fine_residuals(self) -> list[nn.Sequential]:
        """Return the residual layers of each resolution finer than the latent grid, finest first; the grid has none."""
        *finer, _ = self.widths[1:]
        return [*[self.build_residuals(width, self.fine_layers) for width in finer], nn.Sequential()]


class Encoder(nn.Module):
    """Images (B, C, H, W) to latents (B, D, h, w): a stride-2 4x4 convolution per halving, 3x3, residuals, 1x1."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.patch = sizes.patch
        self.down = nn.ModuleList(
            nn.Conv2d(inner, outer, 3, padding=1) if number == 0 and self.patch > 1 else
            nn.Conv2d(inner, outer, 4, stride=2, padding=1)
            for number, (inner, outer) in enumerate(pairwise(sizes.widths))
        )  # fmt: skip
        self.fine = nn.ModuleList(sizes.build_fine_residuals())
        self.mix = nn.Conv2d(sizes.hidden, sizes.hidden, 3, padding=1)
        self.residuals = sizes.build_residuals(sizes.hidden, sizes.residual_layers)
        self.to_code = nn.Conv2d(sizes.hidden, sizes.code_dim, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return the latents, before quantization."""
        features = F.pixel_unshuffle(images, self.patch) if self.patch > 1 else images
        for layer, residuals in zip(self.down, self.fine, strict=True):
            features = F.relu_(residuals(layer(features)))
        features = self.residuals(self.mix(features))
        return self.to_code(F.relu_(features))


class Decoder(nn.Module):
    """Quantized latents (B, D, h, w) to images (B, C, H, W): the encoder's mirror, 4x4 transposed convolutions."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.patch = sizes.patch
        self.mix = nn.Conv2d(sizes.code_dim, sizes.hidden, 3, padding=1)
        self.residuals = sizes.build_residuals(sizes.hidden, sizes.residual_layers)
        steps = list(pairwise(sizes.widths[::-1]))
        self.fine = nn.ModuleList(sizes.build_fine_residuals()[::-1])
        self.up = nn.ModuleList(
            nn.Conv2d(wide, narrow, 3, padding=1) if number == len(steps) and self.patch > 1 else Upsample(wide, narrow)
            for number, (wide, narrow) in enumerate(steps, 1)
        )

    def forward(self, quantized: Tensor) -> Tensor:
        """Return the images, not clipped."""
        features = self.residuals(self.mix(quantized))
        for residuals, layer in zip(self.fine, self.up, strict=True):
            features = layer(F.relu_(residuals(features)))
        return F.pixel_shuffle(features, self.patch) if self.patch > 1 else features


def init_weights(model: nn.Module) -> None:
    """Scale the weights so that the latents start near unit scale and each residual near the identity.

    He et al. 2015 for layers behind a ReLU. PyTorch's default loses a factor of 2.4 a layer: the first latents of
    a slice differ by some thousandths, and the first steps go into blowing them up.
    """
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            taps = math.prod(layer.kernel_size) / math.prod(layer.stride if layer.transposed else (1,))
            gain = {"to_code": 1.0, "gather": 0.1}.get(name.rpartition(".")[2], math.sqrt(2))
            nn.init.normal_(layer.weight, std=gain / math.sqrt(layer.in_channels * taps))
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
