"""Restore slices: redraw their unlikely codes several times, and compare the slice with what the restorations show.

Shapes: B slices, N restorations of each, S side of the image, h w code map.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vqdist.inference.anomaly.method import ScoringMethod
from vqdist.inference.anomaly.prior_draws import PriorDraws
from vqdist.inference.prior_and_vqvae import PriorAndVQVAE
from vqdist.metrics.images import brain_mask
from vqdist.metrics.smoothing import smooth
from vqdist.models.map_conditions import MapConditions


@dataclass(frozen=True)
class SliceParts:
    """What is computed from one slice alone; tensors on the CPU.

    Attributes:
        image, recon: (C, S, S) the slice and its reconstruction, in [0, 1].
        restored: (C, S, S) the restoration with the fewest bits.
        brain: (S, S) bool, the pixels above 0.
        bits: (h, w) of the codes.
        residual: (S, S) smoothed difference between the slice and its restorations, in grey values.
        deviation: (S, S) smoothed difference between the slice and the expected one, in standard deviations.
    """

    image: Tensor
    recon: Tensor
    restored: Tensor
    brain: Tensor
    bits: Tensor
    residual: Tensor
    deviation: Tensor


def compute_parts(
    models: PriorAndVQVAE,
    images: Tensor,
    limits: Tensor,
    conditions: MapConditions,
    noise: Tensor,
    draws: Sequence[PriorDraws],
    method: ScoringMethod,
) -> list[SliceParts]:
    """Encode and restore slices. Must run in inference mode.

    Args:
        images: (B, C, S, S) in [0, 1].
        limits: (B,) bits above which a code is redrawn.
        conditions: of the B slices.
        noise: (N, h * w, K), the same for every slice, so that a result does not depend on other slices.
        draws: of the condition of each slice.
    """
    codes = models.vqvae.encode(images)
    bits = models.count_bits(codes, conditions)
    restored, map_bits = restore(models, codes, limits, conditions, noise, method)
    parts = []
    for index, image in enumerate(images):
        decoded = models.vqvae.decode(restored[index])
        recon = models.vqvae.decode(codes[index : index + 1])[0]
        residual = compare(image, recon, decoded, map_bits[index] / codes[index].numel(), method)
        likeliest = decoded[int(map_bits[index].argmin())]
        brain = brain_mask(image[None])[0, 0]
        deviation = smooth(draws[index].measure(image.cpu()), method.blur * image.shape[-1])
        values = (image, recon, likeliest, brain, bits[index], residual, deviation)
        parts.append(SliceParts(*(value.cpu() for value in values)))
    return parts


def restore(
    models: PriorAndVQVAE,
    codes: Tensor,
    limits: Tensor,
    conditions: MapConditions,
    noise: Tensor,
    method: ScoringMethod,
) -> tuple[Tensor, Tensor]:
    """Return N restorations of each map, (B, N, h, w), and the bits of each, (B, N); arguments as in compute_parts."""
    N = len(noise)
    restored, bits = models.prior.restore_with_bits(
        codes.repeat_interleave(N, dim=0),
        limits.repeat_interleave(N)[:, None, None],
        noise.to(codes.device).repeat(len(codes), 1, 1),
        temperature=method.temperature,
        conditions=conditions.repeat(N),
    )
    return restored.view(len(codes), N, *codes.shape[1:]), bits.sum(dim=(1, 2)).view(len(codes), N)


def compare(image: Tensor, recon: Tensor, restored: Tensor, bits_per_code: Tensor, method: ScoringMethod) -> Tensor:
    """Return the smoothed mean difference between a slice and its restorations, weighted by their likelihood: (S, S).

    It is the mean of the differences to the slice and to its reconstruction: the first sees details that the VQ-VAE
    does not reconstruct, the second is 0 where the codes are kept.

    Args:
        image, recon: (C, S, S).
        restored: (N, C, S, S).
        bits_per_code: (N,) of the restored maps.
    """
    weights = torch.softmax(-method.likelihood_weight * bits_per_code, dim=0)
    differences = ((restored - image).abs() + (restored - recon).abs()).mean(dim=1) / 2  # (N, S, S)
    return smooth((weights[:, None, None] * differences).sum(dim=0), method.blur * image.shape[-1])
