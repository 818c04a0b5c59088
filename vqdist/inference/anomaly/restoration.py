"""Restore slices: redraw their unlikely codes several times, and compare the slice with what the restorations show.

Shapes: B slices, N restorations of each, S side of the image, h w code map.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from vqdist.inference.anomaly.method import ScoringMethod
from vqdist.inference.prior_and_vqvae import PriorAndVQVAE
from vqdist.metrics.images import brain_mask
from vqdist.metrics.smoothing import smooth


@dataclass(frozen=True)
class SliceParts:
    """What is computed from one slice alone; tensors on the CPU.

    Attributes:
        image, recon: (C, S, S) the slice and its reconstruction, in [0, 1].
        restored: (C, S, S) the restoration with the fewest bits.
        brain: (S, S) bool, the pixels above 0.
        bits: (h, w) of the codes.
        residual: (S, S) smoothed difference between the slice and its restorations, in grey values.
    """

    image: Tensor
    recon: Tensor
    restored: Tensor
    brain: Tensor
    bits: Tensor
    residual: Tensor


def compute_parts(
    models: PriorAndVQVAE,
    images: Tensor,
    limits: Tensor,
    conditions: Mapping[str, Tensor],
    noise: Tensor,
    method: ScoringMethod,
) -> list[SliceParts]:
    """Encode and restore slices. Must run in inference mode.

    Args:
        images: (B, C, S, S) in [0, 1].
        limits: (B,) bits above which a code is redrawn.
        conditions: (B,) each.
        noise: (N, h * w, K), the same for every slice, so that a result does not depend on other slices.
    """
    codes = models.vqvae.encode(images)
    bits = models.count_bits(codes, conditions)
    restored, map_bits = restore(models, codes, limits, conditions, noise, method)
    parts = []
    for index, image in enumerate(images):
        decoded = models.vqvae.decode(restored[index])
        recon = models.vqvae.decode(codes[index : index + 1])[0]
        residual = compare(image, decoded, map_bits[index], codes[index].numel(), method)
        likeliest = decoded[int(map_bits[index].argmin())]
        brain = brain_mask(image[None])[0, 0]
        parts.append(SliceParts(*(value.cpu() for value in (image, recon, likeliest, brain, bits[index], residual))))
    return parts


def restore(
    models: PriorAndVQVAE,
    codes: Tensor,
    limits: Tensor,
    conditions: Mapping[str, Tensor],
    noise: Tensor,
    method: ScoringMethod,
) -> tuple[Tensor, Tensor]:
    """Return N restorations of each map, (B, N, h, w), and the bits of each, (B, N); arguments as in compute_parts."""
    N = len(noise)
    repeated = {name: values.repeat_interleave(N) for name, values in conditions.items()}
    restored = models.prior.restore(
        codes.repeat_interleave(N, dim=0),
        limits.repeat_interleave(N)[:, None, None],
        noise.to(codes.device).repeat(len(codes), 1, 1),
        temperature=method.temperature,
        label=repeated.get("label"),
        slice=repeated.get("slice"),
    )
    bits = models.count_bits(restored, repeated).sum(dim=(1, 2))
    return restored.view(len(codes), N, *codes.shape[1:]), bits.view(len(codes), N)


def compare(image: Tensor, restored: Tensor, bits: Tensor, num_places: int, method: ScoringMethod) -> Tensor:
    """Return the smoothed mean difference between a slice and its restorations, weighted by their likelihood: (S, S).

    Args:
        image: (C, S, S).
        restored: (N, C, S, S).
        bits: (N,) of the restored maps.
        num_places: codes per map.
    """
    weights = torch.softmax(-method.likelihood_weight * bits / num_places, dim=0)
    difference = (restored - image).abs().mean(dim=1)  # (N, S, S)
    return smooth((weights[:, None, None] * difference).sum(dim=0), method.blur * image.shape[-1])
