"""Statistics of slices for the comparison of samples with real slices, a few kilobytes per slice."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vqdist.evaluation.samples.features import compute_features

THUMBNAIL = 128
GREY_BINS = 64
SPECTRUM_BINS = 32
LEFT_RIGHT_BAND = (2.0, 8.0)  # cycles per slice
_BACKGROUND = 0.05
_BRAIN_LEVEL = 0.15  # above the soft edge of decoded slices
_FLUID_SHARE = 0.4

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SliceStatistics:
    """Statistics of N slices.

    Attributes:
        features: (N, F) as described by `features.NAME`.
        thumbnails: (N, THUMBNAIL, THUMBNAIL) uint8.
        histogram: (N, GREY_BINS) share of the pixels above 0.05 at each grey value.
        spectrum: (N, SPECTRUM_BINS) mean power at each spatial frequency, up to half a cycle per pixel.
        brain_area: (N,) share of the slice that is brain.
        ventricle_area: (N,) share of the inner part of the brain that is darker than 0.4 of the bright tissue.
        left_right: (N,) similarity of the upper half to the mirrored lower half; see `compare_halves`.
        slice_numbers: (N,) below 0 for a slice without number.
        subjects: (N,) slices of one subject are related; a sampled slice is a subject of its own.
    """

    features: Values
    thumbnails: npt.NDArray[np.uint8]
    histogram: Values
    spectrum: Values
    brain_area: Values
    ventricle_area: Values
    left_right: Values
    slice_numbers: npt.NDArray[np.int64]
    subjects: npt.NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.features)

    @classmethod
    def measure(
        cls, images: Float[Tensor, "B C H W"], slice_numbers: npt.NDArray[np.int64], subjects: npt.NDArray[np.str_]
    ) -> Self:
        """Compute the statistics of images in [0, 1]."""
        grey = images.float().mean(dim=1)
        thumbnails = F.interpolate(grey[:, None], size=(THUMBNAIL, THUMBNAIL), mode="area")[:, 0]
        brain_area, ventricle_area = measure_areas(grey)
        return cls(
            features=compute_features(images).cpu().double().numpy(),
            thumbnails=thumbnails.mul(255).round().to(torch.uint8).cpu().numpy(),
            histogram=grey_histogram(grey).cpu().double().numpy(),
            spectrum=power_spectrum(grey).cpu().double().numpy(),
            brain_area=brain_area.cpu().double().numpy(),
            ventricle_area=ventricle_area.cpu().double().numpy(),
            left_right=compare_halves(thumbnails).cpu().double().numpy(),
            slice_numbers=slice_numbers,
            subjects=subjects,
        )

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """Return the statistics of the slices of all parts, in order."""
        names = [field.name for field in fields(cls)]
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def grey_histogram(grey: Float[Tensor, "B H W"]) -> Float[Tensor, "B G"]:
    """Return the histogram of each slice over (0, 1], of the pixels above the background; it sums to 1."""
    bins = (grey.clamp(0, 1) * GREY_BINS).ceil().long()
    bins = torch.where(grey > _BACKGROUND, bins, 0).flatten(1)  # 0 is the background
    counts = torch.zeros(len(grey), GREY_BINS + 1, device=grey.device)
    counts.scatter_add_(1, bins, torch.ones_like(bins, dtype=counts.dtype))
    return counts[:, 1:] / counts[:, 1:].sum(dim=1, keepdim=True).clamp_min(1)


def power_spectrum(grey: Float[Tensor, "B H W"]) -> Float[Tensor, "B R"]:
    """Return the mean power of each slice in rings of spatial frequency; ring r is [r, r + 1) / 64 cycles per pixel."""
    _, H, W = grey.shape
    power = torch.fft.fft2(grey).abs() ** 2 / (H * W)
    fy, fx = torch.fft.fftfreq(H, device=grey.device), torch.fft.fftfreq(W, device=grey.device)
    ring = (torch.hypot(fy[:, None], fx[None]) * 2 * SPECTRUM_BINS).long().clamp_max(SPECTRUM_BINS).flatten()
    total = torch.zeros(len(grey), SPECTRUM_BINS + 1, device=grey.device).index_add_(1, ring, power.flatten(1))
    # Frequencies above half a cycle per pixel exist only along the diagonals and are left out.
    return (total / torch.bincount(ring, minlength=SPECTRUM_BINS + 1).clamp_min(1))[:, :SPECTRUM_BINS]


def measure_areas(grey: Float[Tensor, "B H W"]) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
    """Return the share of brain in each slice, and the share of dark fluid in the inner part of its brain."""
    brain, inner, dark = find_fluid(grey)
    pixels = inner.sum(dim=(1, 2)).clamp_min(1)
    return brain.mean(dim=(1, 2)), dark.sum(dim=(1, 2)) / pixels


def find_fluid(grey: Float[Tensor, "B H W"]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the brain, its inner part, both 0 or 1, and the dark fluid of the inner part, bool: (B, H, W) each.

    The inner part begins an eighth of the picture's width inside the brain, so that sulci do not count.
    """
    side = min(grey.shape[1:])
    bright = (grey > _BRAIN_LEVEL).float()
    # Ventricles and sulci may be almost black; morphological closing adds them to the brain.
    closing = max(side // 32, 1)
    brain = _erode(_dilate(bright, closing), closing)
    inner = _erode(brain, side // 8)
    tissue = torch.stack([_bright_tissue(one) for one in grey])
    return brain, inner, (grey < _FLUID_SHARE * tissue[:, None, None]) & (inner > 0)


def measure_fluid(grey: Float[Tensor, "B H W"]) -> Float[Tensor, " B"]:
    """Return the share of dark fluid in the brain of each slice, ventricles and sulci."""
    closing = max(min(grey.shape[1:]) // 32, 1)
    brain = _erode(_dilate((grey > _BRAIN_LEVEL).float(), closing), closing)
    tissue = torch.stack([_bright_tissue(one) for one in grey])
    dark = (grey < _FLUID_SHARE * tissue[:, None, None]) & (brain > 0)
    return dark.sum(dim=(1, 2)) / brain.sum(dim=(1, 2)).clamp_min(1)


def compare_halves(thumbnails: Float[Tensor, "B S S"]) -> Float[Tensor, " B"]:
    """Return the similarity of the upper half of each slice to its mirrored lower half, at most 1.

    In brain slices these are the person's left and right side. It is the greatest normalised correlation, in a band of
    LEFT_RIGHT_BAND cycles per slice, over moves of the axis of up to 1/16 of the slice: a head need not be centred.
    """
    side = thumbnails.shape[-1]
    frequency = torch.hypot(torch.fft.fftfreq(side)[:, None] * side, torch.fft.rfftfreq(side)[None] * side)
    low, high = LEFT_RIGHT_BAND
    gain = torch.exp(-((frequency / high) ** 2) / 2) * (1 - torch.exp(-((frequency / low) ** 2) / 2))
    spectra = torch.fft.rfft2(thumbnails) * gain.to(thumbnails.device)
    filtered = torch.fft.irfft2(spectra, s=(side, side))
    mirrored = torch.fft.rfft2(filtered.flip(1))
    correlation = torch.fft.irfft2(torch.fft.rfft2(filtered) * mirrored.conj(), s=(side, side))[:, :, 0]
    moves = torch.arange(-(side // 8), side // 8 + 1, device=thumbnails.device)  # the move is twice that of the axis
    energy = (filtered**2).sum(dim=(1, 2)).clamp_min(1e-12)
    return correlation[:, moves].amax(dim=1) / energy


def _dilate(mask: Tensor, radius: int) -> Tensor:
    # Separable: the maximum of a square is that of the maxima of its rows, for a wide square about 30 times as fast.
    columns = F.max_pool2d(mask, (2 * radius + 1, 1), stride=1, padding=(radius, 0))
    return F.max_pool2d(columns, (1, 2 * radius + 1), stride=1, padding=(0, radius))


def _erode(mask: Tensor, radius: int) -> Tensor:
    return 1 - _dilate(1 - mask, radius)


def _bright_tissue(grey: Float[Tensor, "H W"]) -> Tensor:
    inside = grey[grey > _BRAIN_LEVEL]
    # torch.quantile uses float64, which mps does not support, so it runs on the CPU.
    return torch.quantile(inside.cpu(), 0.9).to(grey.device) if inside.numel() else grey.new_zeros(())
