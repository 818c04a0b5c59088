"""What is measured on images and codes, as per-sample values whose means are exact on any number of ranks.

Legend: B batch, C channels, H W image, h w latent grid, K codes.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vqdist.foundation.errors import DataError

WINDOW_RADIUS = 5
WINDOW_SIGMA = 1.5
MIN_SSIM_SIZE = 2 * WINDOW_RADIUS + 1
SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2  # for a data range of 1
_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_SMALLEST_MSE = 1e-10


def build_window(like: Tensor) -> Tensor:
    """Return the weights of SSIM's Gaussian window along one side, in a tensor's type and on its device: (11,)."""
    offsets = torch.arange(-WINDOW_RADIUS, WINDOW_RADIUS + 1, device=like.device, dtype=like.dtype)
    window = torch.exp(-(offsets**2) / (2 * WINDOW_SIGMA**2))
    return window / window.sum()


def blur(images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
    """Blur with the Gaussian window of SSIM: 11 x 11, sigma 1.5, borders mirrored. Differentiable."""
    # One plane per group: a plain convolution over B * C images of one channel is 20 times slower on a CPU.
    return blur_planes(images.reshape(1, -1, *images.shape[-2:])).reshape(images.shape)


def blur_planes(planes: Float[Tensor, "1 P H W"]) -> Float[Tensor, "1 P H W"]:
    """Blur planes that lie side by side as channels, as `blur` does images."""
    window = build_window(planes).expand(planes.shape[1], 1, 1, -1)
    padded = F.pad(planes, (WINDOW_RADIUS,) * 4, mode="reflect")
    return F.conv2d(F.conv2d(padded, window, groups=len(window)), window.transpose(2, 3), groups=len(window))


def ssim_map(images: Float[Tensor, "B C H W"], recon: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
    """Return the structural similarity at each pixel, for a data range of 1. Differentiable.

    Wang et al. 2004, eq. 13, with population variances.

    Raises:
        DataError: images smaller than the window of 11 x 11.
    """
    luminance, structure = _ssim_parts(images, recon)
    return luminance * structure


def _ssim_parts(images: Tensor, recon: Tensor) -> tuple[Tensor, Tensor]:
    """Return the two factors of the map: luminance, and contrast with structure.

    In fp32 (or fp64) whatever autocast says, since a variance is a difference of two close numbers.
    """
    require_ssim_size(images.shape[-2], images.shape[-1])
    with torch.autocast(images.device.type, enabled=False):
        dtype = torch.float64 if images.dtype == torch.float64 else torch.float32
        x, y = images.to(dtype), recon.to(dtype)
        mean_x, mean_y, mean_squares, mean_xy = blur(torch.cat([x, y, x * x + y * y, x * y])).chunk(4)
        means, product = mean_x**2 + mean_y**2, mean_x * mean_y
        luminance = (2 * product + SSIM_C1) / (means + SSIM_C1)
        return luminance, (2 * (mean_xy - product) + SSIM_C2) / (mean_squares - means + SSIM_C2)


def ms_ssim(images: Float[Tensor, "B C H W"], recon: Float[Tensor, "B C H W"]) -> Float[Tensor, " B"]:
    """Return each pair's multi-scale structural similarity; Wang et al. 2003, eq. 7.

    Of the five scales those are used at which the window still fits; their weights are made to sum to 1.
    """
    side = min(images.shape[-2:])
    scales = sum(side >> scale >= MIN_SSIM_SIZE for scale in range(len(_SCALE_WEIGHTS)))
    weights = [weight / sum(_SCALE_WEIGHTS[:scales]) for weight in _SCALE_WEIGHTS[:scales]]
    similarity = torch.ones(len(images), device=images.device)
    for scale, weight in enumerate(weights):
        luminance, structure = _ssim_parts(images, recon)
        factor = luminance * structure if scale == scales - 1 else structure
        similarity = similarity * factor.mean(dim=(1, 2, 3)).clamp_min(0) ** weight
        images, recon = F.avg_pool2d(images, 2), F.avg_pool2d(recon, 2)
    return similarity


def require_ssim_size(height: int, width: int) -> None:
    """Raise DataError where an image of this size, in pixels, is smaller than SSIM's window."""
    if min(height, width) < MIN_SSIM_SIZE:
        raise DataError.of("image size", f"{height} x {width}", f"at least {MIN_SSIM_SIZE} pixels a side for SSIM")


def brain_mask(images: Float[Tensor, "B C H W"]) -> Bool[Tensor, "B 1 H W"]:
    """Return where the source slice is above 0 in any channel: stripped slices are exactly 0 outside."""
    return (images > 0).any(dim=1, keepdim=True)


def masked_mean(values: Float[Tensor, "B C H W"], mask: Bool[Tensor, "B 1 H W"]) -> Float[Tensor, " B"]:
    """Return each sample's mean over the mask, NaN where the mask is empty."""
    pixels = mask.sum(dim=(1, 2, 3)) * values.shape[1]
    return (values * mask).sum(dim=(1, 2, 3)) / pixels


def psnr(mse: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
    """Return the peak signal-to-noise ratio in dB for a data range of 1; at most 100, where mse is 0."""
    return -10 * torch.log10(mse.clamp_min(_SMALLEST_MSE))


def compute_image_metrics(
    images: Float[Tensor, "B C H W"], recon: Float[Tensor, "B C H W"]
) -> dict[str, Float[Tensor, " B"]]:
    """Return ssim, ssim_brain, psnr, psnr_brain and mse of each sample, on the CPU in float64.

    The reconstruction is clipped to [0, 1]. ssim is the mean of the whole map, borders mirrored, as in
    torchmetrics. The brain is where the source slice is above 0; a slice that is 0 everywhere has none, and
    its two brain values are NaN, which `Means` leaves out.

    Args:
        images: in [0, 1].
        recon: any range.
    """
    images, recon = images.float(), recon.float().clamp(0, 1)
    similarity, error, brain = ssim_map(images, recon), (images - recon) ** 2, brain_mask(images)
    mse = error.mean(dim=(1, 2, 3))
    values = {
        "ssim": similarity.mean(dim=(1, 2, 3)),
        "ssim_brain": masked_mean(similarity, brain),
        "psnr": psnr(mse),
        "psnr_brain": psnr(masked_mean(error, brain)),
        "mse": mse,
    }
    return {name: value.cpu().double() for name, value in values.items()}


class Means:
    """Exact means of named per-sample values: a sum and a count for each name, in float64 on the CPU.

    Ranks that hold any shares of the samples, ragged or none, add up to the same mean:

        for sums in ranks.gather_objects(means.sums): total.merge(sums)
    """

    def __init__(self) -> None:
        self.sums: dict[str, tuple[float, float]] = {}

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Add a batch of per-sample values, each (B,); a NaN of a `_brain` name is a slice without brain."""
        for name, value in values.items():
            value = value.detach().cpu().double().flatten()
            if name.endswith("_brain"):
                value = value[~value.isnan()]
            self.merge({name: (value.sum().item(), float(value.numel()))})

    def merge(self, sums: Mapping[str, tuple[float, float]]) -> None:
        """Add the sums and counts of another rank or batch."""
        for name, (total, count) in sums.items():
            old_total, old_count = self.sums.get(name, (0.0, 0.0))
            self.sums[name] = (old_total + total, old_count + count)

    def compute(self) -> dict[str, float]:
        """Return the mean of each name; a name with no samples is left out."""
        return {name: total / count for name, (total, count) in self.sums.items() if count}


def count_codes(codes: Int[Tensor, "..."], num_codes: int) -> Int[Tensor, " K"]:
    """Return how often each code occurs, int64 on the CPU; counts of several batches or ranks add up."""
    return torch.bincount(codes.detach().flatten().cpu(), minlength=num_codes)


def perplexity(counts: Int[Tensor, " K"]) -> float:
    """Return exp of the entropy of the code usage: between 1 and the number of codes used."""
    p = counts.double() / counts.sum()
    return math.exp(-torch.xlogy(p, p).sum().item())


def codes_used(counts: Int[Tensor, " K"]) -> int:
    """Return the number of codes that occur."""
    return int((counts > 0).sum())


def code_bits(logits: Float[Tensor, "B K h w"], codes: Int[Tensor, "B h w"]) -> Float[Tensor, " B"]:
    """Return each map's mean of -log2 p(code) over its positions, on the CPU in float64."""
    nats = F.cross_entropy(logits.float(), codes, reduction="none")
    return nats.flatten(1).cpu().double().mean(dim=1) / math.log(2)


def bits_per_pixel(bits_per_code: float, grid: tuple[int, int], image_size: tuple[int, int]) -> float:
    """Return the bits of a map of h w codes spread over the H W pixels that it stands for."""
    return bits_per_code * math.prod(grid) / math.prod(image_size)


class Interval(NamedTuple):
    """A mean and its 95 % interval over subjects; no interval with fewer than two subjects."""

    mean: float
    low: float | None
    high: float | None


def bootstrap_subjects(
    values: Sequence[float] | np.ndarray, subjects: Sequence[str], *, seed: int = 0, resamples: int = 10_000
) -> Interval:
    """Return the mean over all samples with its percentile interval, whole subjects drawn with replacement.

    Slices of one brain are alike, so that an interval over slices would be too narrow. The same samples give
    the same interval in any order of subjects.

    Args:
        values: (N,) a value per sample.
        subjects: (N,) the subject of each.
    """
    array = np.asarray(values, dtype=np.float64)
    names, index = np.unique(np.asarray(subjects), return_inverse=True)
    sums = np.bincount(index, weights=array)
    counts = np.bincount(index)
    mean = float(sums.sum() / counts.sum())
    if len(names) < 2:
        return Interval(mean, None, None)
    drawn = np.random.default_rng(seed).integers(len(names), size=(resamples, len(names)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(mean, float(low), float(high))
