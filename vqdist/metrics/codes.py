"""Metrics of codes: codebook usage, bits per code, bits per pixel.

Shapes: B batch, h w code map height and width, K number of codes.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor


def count_codes(codes: Int[Tensor, "..."], num_codes: int) -> Int[Tensor, " K"]:
    """Count how often each code occurs, int64 on the CPU. Counts of several batches or ranks can be summed."""
    return torch.bincount(codes.detach().flatten().cpu(), minlength=num_codes)


def count_brain_codes(codes: Int[Tensor, "B h w"], brain: Bool[Tensor, "B 1 H W"], num_codes: int) -> Int[Tensor, " K"]:
    """Count the codes of the cells of the map that contain a pixel of the brain. H and W are multiples of h and w."""
    cells = F.max_pool2d(brain.float(), (brain.shape[-2] // codes.shape[-2], brain.shape[-1] // codes.shape[-1]))
    return count_codes(codes[cells[:, 0] > 0], num_codes)


def perplexity(counts: Int[Tensor, " K"]) -> float:
    """Return exp of the entropy of the code usage, between 1 and the number of codes used."""
    p = counts.double() / counts.sum()
    return math.exp(-torch.xlogy(p, p).sum().item())


def codes_used(counts: Int[Tensor, " K"]) -> int:
    """Return the number of codes that occur at least once."""
    return int((counts > 0).sum())


def code_bits(logits: Float[Tensor, "B K h w"], codes: Int[Tensor, "B h w"]) -> Float[Tensor, " B"]:
    """Return -log2 p(code) of each map, averaged over its positions, on the CPU in float64."""
    nats = F.cross_entropy(logits.float(), codes, reduction="none")
    return nats.flatten(1).cpu().double().mean(dim=1) / math.log(2)


def bits_per_pixel(bits_per_code: float, grid: tuple[int, int], image_size: tuple[int, int]) -> float:
    """Convert bits per code of an (h, w) code map to bits per pixel of its (H, W) image."""
    return bits_per_code * math.prod(grid) / math.prod(image_size)
