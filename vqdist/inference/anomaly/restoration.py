"""Restore slices: redraw their unlikely codes several times, and compare the slice with what the restorations show.

A VQ-VAE divides a slice by a fixed grid. Bits and restorations of shifted copies of the slice are averaged, which
locates lesions more exactly than one grid does.

Shapes: B slices, V shifted copies of each, N restorations, S side of the image, h w code map.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vqdist.inference.anomaly.maps import enlarge
from vqdist.inference.anomaly.method import ScoringMethod
from vqdist.inference.anomaly.reference_comparison import compare_with_references
from vqdist.inference.anomaly.signals import Signals
from vqdist.inference.augmented_views import View
from vqdist.inference.prior_and_vqvae import PriorAndVQVAE
from vqdist.metrics.images import brain_mask
from vqdist.metrics.smoothing import smooth
from vqdist.models.map_conditions import MapConditions


@dataclass(frozen=True)
class SliceParts:
    """What is computed from one slice alone; tensors on the CPU.

    Attributes:
        image, recon: (C, S, S) the slice and its reconstruction, in [0, 1].
        restored: (C, S, S) the restoration of the slice itself, not of a shifted copy, with the fewest bits.
        brain: (S, S) bool, the pixels above 0.
        bits: (h, w) of the codes.
    """

    image: Tensor
    recon: Tensor
    restored: Tensor
    brain: Tensor
    bits: Tensor
    signals: Signals


def compute_parts(
    models: PriorAndVQVAE,
    images: Tensor,
    limits: Tensor,
    conditions: MapConditions,
    noise: Tensor,
    references: Sequence[Tensor],
    method: ScoringMethod,
) -> list[SliceParts]:
    """Encode and restore slices. Must run in inference mode.

    Args:
        images: (B, C, S, S) in [0, 1].
        limits: (B,) bits above which a code is redrawn.
        conditions: of the V * B shifted copies, the B slices of one shift after those of another.
        noise: (N, h * w, K), the same for every slice, so that a result does not depend on other slices.
        references: reference slices of each slice, (n, C, S, S) uint8.
    """
    views = list_shifts(models.vqvae.downsample, method)
    B, V = len(images), len(views)
    shifted = torch.stack([view.apply(image) for view in views for image in images])
    codes = models.vqvae.encode(shifted)  # (V * B, h, w), as all others here
    bits = models.count_bits(codes, conditions)
    recons = models.vqvae.decode(codes)
    restored, map_bits = restore(models, codes.view(V, B, *codes.shape[1:]), limits, conditions, noise, method)
    parts = []
    for index, image in enumerate(images):
        own = slice(index, None, B)
        bits_per_code = map_bits[index] / codes[0].numel()
        decoded = shift_back(models.vqvae.decode(restored[index]), views)
        residual = compare(image, shift_back(recons[own], views), decoded, bits_per_code, method)
        comparison = compare_with_references(image.cpu(), references[index], method, symmetric=models.symmetric)
        local_bits = shift_back(torch.stack([enlarge(found, image.shape[-1])[None] for found in bits[own]]), views)
        signals = Signals(*comparison, residual.cpu(), local_bits.mean(dim=(0, 1)).cpu())
        likeliest = decoded[::V][int(bits_per_code[::V].argmin())]
        brain = brain_mask(image[None])[0, 0]
        images_of_slice = (image.cpu(), recons[index].cpu(), likeliest.cpu())
        parts.append(SliceParts(*images_of_slice, brain.cpu(), bits[index].cpu(), signals))
    return parts


def list_shifts(downsample: int, method: ScoringMethod) -> list[View]:
    """Return the shifts of the copies of a slice, evenly over a place of the code map; the first is no shift."""
    steps = sorted({place * downsample // method.shifts for place in range(method.shifts)})
    return [View(down=-down, right=-right) for down in steps for right in steps]


def shift_back(images: Tensor, views: Sequence[View]) -> Tensor:
    """Return images (N, C, S, S), of which image n is shifted as view n % V, at the place of the slice itself."""
    backwards = [View(down=-view.down, right=-view.right) for view in views]
    return torch.stack([backwards[number % len(views)].apply(image) for number, image in enumerate(images)])


def restore(
    models: PriorAndVQVAE,
    codes: Tensor,
    limits: Tensor,
    conditions: MapConditions,
    noise: Tensor,
    method: ScoringMethod,
) -> tuple[Tensor, Tensor]:
    """Restore slices; restoration n is that of the shifted copy n % V. Other arguments as in compute_parts.

    Args:
        codes: (V, B, h, w).
    Returns:
        (B, N, h, w) codes and (B, N) bits of the maps.
    """
    V, B, h, w = codes.shape
    N = len(noise)
    restored, bits = models.prior.restore_with_bits(
        codes[torch.arange(N) % V].transpose(0, 1).reshape(B * N, h, w),
        limits.repeat_interleave(N)[:, None, None],
        noise.to(codes.device).repeat(B, 1, 1),
        temperature=method.temperature,
        conditions=conditions.select([n % V * B + b for b in range(B) for n in range(N)]),
    )
    return restored.view(B, N, h, w), bits.sum(dim=(1, 2)).view(B, N)


def compare(image: Tensor, recons: Tensor, restored: Tensor, bits_per_code: Tensor, method: ScoringMethod) -> Tensor:
    """Return the smoothed mean difference between a slice and its restorations, weighted by their likelihood: (S, S).

    It is the mean of the differences to the slice and to the reconstruction of the same shifted copy: the first sees
    details that the VQ-VAE does not reconstruct, the second is 0 where the codes are kept.

    Args:
        image: (C, S, S).
        recons: (V, C, S, S) of the shifted copies, shifted back.
        restored: (N, C, S, S), shifted back.
        bits_per_code: (N,) of the restored maps.
    """
    weights = torch.softmax(-method.likelihood_weight * bits_per_code, dim=0)
    recon = recons[torch.arange(len(restored)) % len(recons)]
    differences = ((restored - image).abs() + (restored - recon).abs()).mean(dim=1) / 2  # (N, S, S)
    return smooth((weights[:, None, None] * differences).sum(dim=0), method.blur * image.shape[-1])
