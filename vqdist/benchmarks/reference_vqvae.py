"""The VQ-VAE of van den Oord et al. 2017 in its usual form, as a baseline: contiguous layout, one-hot codes."""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Add ReLU, 3 x 3 convolution, ReLU, 1 x 1 convolution to the input."""

    def __init__(self, hidden: int, residual_hidden: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(hidden, residual_hidden, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(residual_hidden, hidden, 1),
        )

    def forward(self, features: Tensor) -> Tensor:
        return features + self.block(features)


class OneHotQuantizer(nn.Module):
    """An EMA codebook (decay 0.99) that is updated from an N x K matrix of one-hot codes."""

    codebook: Tensor
    counts: Tensor
    sums: Tensor

    def __init__(self, num_codes: int, code_dim: int) -> None:
        super().__init__()
        self.num_codes = num_codes
        self.register_buffer("codebook", torch.randn(num_codes, code_dim))
        self.register_buffer("counts", torch.ones(num_codes))
        self.register_buffer("sums", self.codebook.clone())

    def nearest_code(self, flat: Tensor) -> Tensor:
        """Return the nearest code of each latent. (N, D) -> (N,)"""
        distances = flat.square().sum(1, keepdim=True) + self.codebook.square().sum(1) - 2 * flat @ self.codebook.t()
        return distances.argmin(1)

    def forward(self, latents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rows = latents.permute(0, 2, 3, 1).contiguous()
        flat = rows.view(-1, rows.shape[-1])
        codes = self.nearest_code(flat)
        one_hot = F.one_hot(codes, self.num_codes).to(flat.dtype)
        quantized = (one_hot @ self.codebook).view_as(rows)
        if self.training:
            with torch.no_grad():
                self.counts.mul_(0.99).add_(one_hot.sum(0), alpha=0.01)
                self.sums.mul_(0.99).add_(one_hot.t() @ flat, alpha=0.01)
                total = self.counts.sum()
                smoothed = (self.counts + 1e-5) / (total + self.num_codes * 1e-5) * total
                self.codebook.copy_(self.sums / smoothed[:, None])
        loss = 0.25 * F.mse_loss(quantized.detach(), rows)
        quantized = rows + (quantized - rows).detach()
        return quantized.permute(0, 3, 1, 2).contiguous(), loss, codes.view(rows.shape[:3])


class ReferenceVQVAE(nn.Module):
    """Encoder, quantizer and decoder, with one strided convolution for each factor of 2 in `downsample`."""

    def __init__(
        self,
        hidden: int,
        residual_hidden: int,
        num_codes: int,
        code_dim: int,
        *,
        downsample: int = 4,
        channels: int = 1,
    ) -> None:
        super().__init__()
        widths = [channels, hidden // 2, *[hidden] * (int(math.log2(downsample)) - 1)]
        down = [[nn.Conv2d(inner, outer, 4, stride=2, padding=1), nn.ReLU()] for inner, outer in pairwise(widths)]
        up = [
            [nn.ReLU(), nn.ConvTranspose2d(inner, outer, 4, stride=2, padding=1)]
            for inner, outer in pairwise(widths[::-1])
        ]
        self.encoder = nn.Sequential(
            *[layer for layers in down for layer in layers],
            nn.Conv2d(hidden, hidden, 3, padding=1),
            ResidualBlock(hidden, residual_hidden),
            ResidualBlock(hidden, residual_hidden),
            nn.ReLU(),
            nn.Conv2d(hidden, code_dim, 1),
        )
        self.quantizer = OneHotQuantizer(num_codes, code_dim)
        self.decoder = nn.Sequential(
            nn.Conv2d(code_dim, hidden, 3, padding=1),
            ResidualBlock(hidden, residual_hidden),
            ResidualBlock(hidden, residual_hidden),
            *[layer for layers in up for layer in layers],
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return reconstruction, commitment loss and codes."""
        quantized, loss, codes = self.quantizer(self.encoder(images))
        return self.decoder(quantized), loss, codes
