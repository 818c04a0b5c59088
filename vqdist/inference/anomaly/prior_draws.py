"""Slices drawn from the prior: reference slices of a condition, and the bits of likely codes."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from vqdist.inference.prior_and_vqvae import MAPS_PER_PASS, PriorAndVQVAE
from vqdist.inference.sampling import draw_noise

DARK = 0.1  # a decoded place with no brighter pixel is outside the brain

Condition = tuple[int | None, int | None]  # label, slice number


@dataclass(frozen=True)
class PriorDraws:
    """Slices that the prior draws under a condition.

    Attributes:
        images: (num, C, S, S) uint8.
        bits: (n,) of the drawn codes inside the brain.
    """

    images: Tensor
    bits: npt.NDArray[np.float32]


def draw_slices(models: PriorAndVQVAE, condition: Condition, num: int, seed: int) -> PriorDraws:
    """Draw slices of a condition. A third each has the slice number before, the number and the one after.

    Slices of the same number differ in height between people.
    """
    label, slice_number = condition
    (h, w), prior = models.grid, models.prior
    drawn: list[Tensor] = []
    bits: list[npt.NDArray[np.float32]] = []
    for start in range(0, num, MAPS_PER_PASS):
        size = min(MAPS_PER_PASS, num - start)
        given: dict[str, Tensor] = {}
        if label is not None:
            given["label"] = torch.full((size,), label)
        if slice_number is not None:
            steps = (torch.arange(size) + start) % 3 - 1
            given["slice"] = (steps + slice_number).clamp(0, prior.num_slices - 1)
        noise = draw_noise(range(start, start + size), h * w, prior.num_codes, seed)
        codes = prior.sample(size, (h, w), noise, label=given.get("label"), slice=given.get("slice"))
        images = models.vqvae.decode(codes)
        bits += keep_inside(images, models.count_bits(codes, given), models.vqvae.downsample, above=DARK)
        drawn.append((images * 255).round().byte().cpu())
    return PriorDraws(torch.cat(drawn), np.concatenate([np.zeros(0, np.float32), *bits]))


def keep_inside(images: Tensor, bits: Tensor, downsample: int, *, above: float) -> list[npt.NDArray[np.float32]]:
    """Return for each slice the bits of the places with a pixel above a grey value.

    Args:
        images: (B, C, S, S).
        bits: (B, h, w).
    """
    brightest = F.max_pool2d(images.amax(dim=1), downsample)
    return [found[inside].cpu().numpy() for found, inside in zip(bits, brightest > above, strict=True)]
