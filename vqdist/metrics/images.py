"""Image similarity metrics: SSIM, MS-SSIM and PSNR, over the full frame and inside the brain.

Shapes: B batch, C channels, H W image height and width.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from vqdist.foundation.errors import DataError

WINDOW_RADIUS = 5
WINDOW_SIGMA = 1.5
MIN_SSIM_SIZE = 2 * WINDOW_RADIUS + 1
SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2  # for a data range of 1
_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_SMALLEST_MSE = 1e-10


def build_window(like: Tensor) -> Tensor:
    """Return the one-dimensional Gaussian window of SSIM, shape (11,), with the dtype and device of `like`."""
    offsets = torch.arange(-WINDOW_RADIUS, WINDOW_RADIUS + 1, device=like.device, dtype=like.dtype)
    window = torch.exp(-(offsets**2) / (2 * WINDOW_SIGMA**2))
    return window / window.sum()


def blur(images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
    """Blur with the Gaussian window of SSIM (11 x 11, sigma 1.5, reflected borders). Differentiable."""
    # A grouped convolution over B * C channels: one over a batch of B * C images is 20 times slower on a CPU.
    return blur_planes(images.reshape(1, -1, *images.shape[-2:])).reshape(images.shape)


def blur_planes(planes: Float[Tensor, "1 P H W"]) -> Float[Tensor, "1 P H W"]:
    """Blur each channel of a single image with the Gaussian window of SSIM; see `blur`."""
    window = build_window(planes).expand(planes.shape[1], 1, 1, -1)
    padded = F.pad(planes, (WINDOW_RADIUS,) * 4, mode="reflect")
    return F.conv2d(F.conv2d(padded, window, groups=len(window)), window.transpose(2, 3), groups=len(window))


def ssim_map(images: Float[Tensor, "B C H W"], recon: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
    """Return the structural similarity at each pixel, for a data range of 1. Differentiable.

    Wang et al. 2004, eq. 13, with population variances.

    Raises:
        DataError: the images are smaller than the 11 x 11 window.
    """
    luminance, structure = _ssim_parts(images, recon)
    return luminance * structure


def _ssim_parts(images: Tensor, recon: Tensor) -> tuple[Tensor, Tensor]:
    """Return the two factors of the SSIM map: luminance, and contrast times structure.

    Computed in fp32 (or fp64) even under autocast, because a variance is the difference of two close numbers.
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
    """Return the multi-scale structural similarity of each pair; Wang et al. 2003, eq. 7.

    Small images use only those of the five scales at which the window fits; the weights are normalised to sum to 1.
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
    """Raise DataError if an image of this size in pixels is smaller than the SSIM window."""
    if min(height, width) < MIN_SSIM_SIZE:
        raise DataError.of("image size", f"{height} x {width}", f"at least {MIN_SSIM_SIZE} pixels a side for SSIM")


def round_to_uint8(images: Tensor) -> Tensor:
    """Return images in [0, 1] rounded to the 256 grey values of a PNG."""
    return images.mul(255).round().div(255)


def brain_mask(images: Float[Tensor, "B C H W"]) -> Bool[Tensor, "B 1 H W"]:
    """Return the pixels above 0 in any channel; skull-stripped slices are exactly 0 outside the brain."""
    return (images > 0).any(dim=1, keepdim=True)


def masked_mean(values: Float[Tensor, "B C H W"], mask: Bool[Tensor, "B 1 H W"]) -> Float[Tensor, " B"]:
    """Return the mean of each sample over the mask, NaN where the mask is empty."""
    pixels = mask.sum(dim=(1, 2, 3)) * values.shape[1]
    return (values * mask).sum(dim=(1, 2, 3)) / pixels  # NaN at a pixel outside the mask counts too


def psnr(mse: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
    """Return the peak signal-to-noise ratio in dB for a data range of 1, limited to 100 dB."""
    return -10 * torch.log10(mse.clamp_min(_SMALLEST_MSE))


def compute_image_metrics(
    images: Float[Tensor, "B C H W"], recon: Float[Tensor, "B C H W"]
) -> dict[str, Float[Tensor, " B"]]:
    """Compute ssim, ssim_brain, psnr, psnr_brain and mse of each sample.

    The SSIM of a sample is the mean of its whole map, with reflected borders as in torchmetrics. The `_brain` values
    are means over `brain_mask(images)`; they are NaN for a slice that is 0 everywhere, and `Means` skips them. All
    values of a reconstruction with NaN are NaN.

    Args:
        images: in [0, 1].
        recon: any range; clipped to [0, 1].
    Returns:
        Values by name, on the CPU in float64.
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
