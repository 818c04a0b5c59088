"""Encoder and decoder of the VQ-VAE: the layers of van den Oord et al. 2017, or narrower ones at fine resolutions.

Shapes: B batch, C channels, H W image, h w latent grid, D code size.
"""

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from vqdist.config.model_config import VQVAEConfig
from vqdist.models.cpu_kernels import conv_transpose

Activation = Callable[..., Tensor]  # (features, inplace: bool = False)
ACTIVATIONS: dict[str, Activation] = {"relu": F.relu, "leaky_relu": partial(F.leaky_relu, negative_slope=0.1)}


class Residual(nn.Module):
    """Activation, 3x3 convolution, activation, 1x1 convolution, added to the input; 2017, section 4.1."""

    def __init__(self, hidden: int, residual_hidden: int, activation: Activation) -> None:
        super().__init__()
        self.activate = activation
        self.spread = nn.Conv2d(hidden, residual_hidden, 3, padding=1)
        self.gather = nn.Conv2d(residual_hidden, hidden, 1)

    def forward(self, features: Tensor) -> Tensor:
        """(B, hidden, h, w) to the same shape."""
        return features + self.gather(self.activate(self.spread(self.activate(features)), inplace=True))


class Upsample(nn.ConvTranspose2d):
    """A 4x4 transposed convolution of stride 2: (B, I, H, W) to (B, O, 2 H, 2 W)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 4, stride=2, padding=1)

    def forward(self, features: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Return the features at twice the size."""
        assert self.bias is not None
        return conv_transpose(features, self.weight, self.bias)


class Encoder(nn.Module):
    """Images (B, C, H, W) to latents (B, D, h, w).

    A 4x4 convolution of stride 2 per halving of the resolution, then 3x3, residual blocks and 1x1.
    """

    def __init__(self, channels: int, config: VQVAEConfig) -> None:
        super().__init__()
        self.patch, self.activate = config.patch, ACTIVATIONS[config.activation]
        self.down = nn.ModuleList(
            nn.Conv2d(inner, outer, 3, padding=1) if number == 0 and self.patch > 1 else
            nn.Conv2d(inner, outer, 4, stride=2, padding=1)
            for number, (inner, outer) in enumerate(pairwise(compute_widths(channels, config)))
        )  # fmt: skip
        self.fine = nn.ModuleList(_build_fine_residuals(channels, config))
        self.mix = nn.Conv2d(config.hidden, config.hidden, 3, padding=1)
        self.residuals = _build_residuals(config, config.hidden, config.residual_layers)
        self.to_code = nn.Conv2d(config.hidden, config.code_dim, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return the latents before quantization."""
        features = F.pixel_unshuffle(images, self.patch) if self.patch > 1 else images
        for layer, residuals in zip(self.down, self.fine, strict=True):
            features = self.activate(residuals(layer(features)), inplace=True)
        features = self.residuals(self.mix(features))
        return self.to_code(self.activate(features, inplace=True))


class Decoder(nn.Module):
    """Quantized latents (B, D, h, w) to images (B, C, H, W): the encoder mirrored, with transposed convolutions."""

    def __init__(self, channels: int, config: VQVAEConfig) -> None:
        super().__init__()
        self.patch, self.activate = config.patch, ACTIVATIONS[config.activation]
        self.mix = nn.Conv2d(config.code_dim, config.hidden, 3, padding=1)
        self.residuals = _build_residuals(config, config.hidden, config.residual_layers)
        layers = list(pairwise(compute_widths(channels, config)[::-1]))
        self.fine = nn.ModuleList(_build_fine_residuals(channels, config)[::-1])
        self.up = nn.ModuleList(
            nn.Conv2d(wide, narrow, 3, padding=1)
            if number == len(layers) and self.patch > 1
            else Upsample(wide, narrow)
            for number, (wide, narrow) in enumerate(layers, 1)
        )

    def forward(self, quantized: Tensor) -> Tensor:
        """Return the images, not clipped."""
        features = self.residuals(self.mix(quantized))
        for residuals, layer in zip(self.fine, self.up, strict=True):
            features = layer(self.activate(residuals(features), inplace=True))
        return F.pixel_shuffle(features, self.patch) if self.patch > 1 else features


def compute_widths(channels: int, config: VQVAEConfig) -> list[int]:
    """Return the number of channels at each resolution, from the image (or its patches) to the latent grid."""
    halvings = int(math.log2(config.downsample // config.patch))
    if config.patch == 1:
        return [channels, config.hidden // 2, *[config.hidden] * (halvings - 1)]
    return [channels * config.patch**2, *[max(config.hidden >> level, 1) for level in range(halvings, -1, -1)]]


def init_weights(model: nn.Module) -> None:
    """Initialise all convolutions so that latents have about unit scale and residual blocks are near the identity.

    He et al. 2015 for layers after a ReLU. PyTorch's default initialisation shrinks the features by 2.4 per layer: the
    first latents of a slice would differ by some thousandths only.
    """
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            taps = math.prod(layer.kernel_size) / math.prod(layer.stride if layer.transposed else (1,))
            gain = {"to_code": 1.0, "gather": 0.1}.get(name.rpartition(".")[2], math.sqrt(2))
            nn.init.normal_(layer.weight, std=gain / math.sqrt(layer.in_channels * taps))
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)


def _build_residuals(config: VQVAEConfig, width: int, layers: int) -> nn.Sequential:
    """Return residual blocks whose inner width is the same share of the outer width at every resolution."""
    inner = max(config.residual_hidden * width // config.hidden, 1)
    activation = ACTIVATIONS[config.activation]
    return nn.Sequential(*[Residual(width, inner, activation) for _ in range(layers)])


def _build_fine_residuals(channels: int, config: VQVAEConfig) -> list[nn.Sequential]:
    """Return the residual blocks of each resolution finer than the latent grid, finest first; none for the grid."""
    *finer, _ = compute_widths(channels, config)[1:]
    return [*[_build_residuals(config, width, config.fine_layers) for width in finer], nn.Sequential()]
