"""Gaussian smoothing of maps of any size."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

REACH = 3.0  # standard deviations


def smooth(maps: Tensor, sigma: float) -> Tensor:
    """Blur maps (..., H, W) with a Gaussian window of standard deviation `sigma`, in pixels; borders are replicated."""
    radius = math.ceil(REACH * sigma)
    if radius < 1:
        return maps
    offsets = torch.arange(-radius, radius + 1, dtype=maps.dtype, device=maps.device)
    window = torch.exp(-(offsets**2) / (2 * sigma**2))
    window = window / window.sum()
    # A grouped convolution: one over a batch of maps with one channel each is many times slower on a CPU.
    planes = F.pad(maps.reshape(1, -1, *maps.shape[-2:]), (radius,) * 4, mode="replicate")
    weight = window.expand(planes.shape[1], 1, 1, -1)
    blurred = F.conv2d(F.conv2d(planes, weight, groups=len(weight)), weight.transpose(2, 3), groups=len(weight))
    return blurred.reshape(maps.shape)
