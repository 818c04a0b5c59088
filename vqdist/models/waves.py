"""Positions and numbers as sines and cosines."""

import math

import torch
from torch import Tensor


def encode_waves(share: Tensor, frequencies: Tensor) -> Tensor:
    """Return cosines and sines of positions (n,) in [0, 1] at frequencies (f,) int64: (n, 2 f)."""
    angles = math.pi * share[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)
