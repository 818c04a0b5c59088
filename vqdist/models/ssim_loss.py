"""1 - SSIM as a loss: the values of `vqdist.metrics.images.ssim_map` with a written-out gradient.

The written-out gradient takes less time than autograd's, and unlike the gradient of reflection padding it is
deterministic on CUDA.

Shapes: B batch, C channels, H W image, P = B * C planes.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from vqdist.metrics.images import SSIM_C1, SSIM_C2, WINDOW_RADIUS, blur_planes, build_window, require_ssim_size


def dissimilarity(images: Tensor, recon: Tensor) -> Tensor:
    """Compute 1 - mean SSIM of each sample for a data range of 1: 1 - ssim_map(images, recon).mean((1, 2, 3)).

    Differentiable once, with respect to the reconstruction only.

    Args:
        images, recon: (B, C, H, W).
    Returns:
        (B,) fp32, also under autocast; fp64 for fp64.
    Raises:
        DataError: images smaller than the window of 11 x 11.
    """
    require_ssim_size(images.shape[-2], images.shape[-1])
    result: Tensor = _Dissimilarity.apply(images, recon)
    return result


class _Dissimilarity(torch.autograd.Function):
    """Wang et al. 2004, eq. 13: luminance times structure, from means under a Gaussian window.

    The SSIM map depends on the reconstruction y by three windowed means: of y, of y^2 and of x y, x the image. The
    derivatives by these means are three maps; the adjoint of the window maps them to the gradient of y.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor, recon: Tensor) -> Tensor:
        with torch.autocast(images.device.type, enabled=False):
            x, y = _to_planes(images), _to_planes(recon)
            squares = (x * x).addcmul_(y, y)
            mean_x, mean_y, mean_xy, mean_squares = _apply_to_each(blur_planes, x, y, x * y, squares)
            means, product = (mean_x * mean_x).addcmul_(mean_y, mean_y), mean_x * mean_y
            per_structure = mean_squares.sub_(means).add_(SSIM_C2).reciprocal_()
            per_luminance = means.add_(SSIM_C1).reciprocal_()
            structure = mean_xy.sub_(product).mul_(2).add_(SSIM_C2).mul_(per_structure)
            luminance = product.mul_(2).add_(SSIM_C1).mul_(per_luminance)
            similarity = (luminance * structure).view(images.shape[0], -1, *images.shape[-2:]).mean((1, 2, 3))
            if ctx.needs_input_grad[1]:
                # Halves of the derivatives; by the mean of squares it is by_product times -structure.
                by_product = per_structure.mul_(luminance)
                by_mean = (structure * per_luminance).sub_(by_product).mul_(mean_x)
                weight_y = luminance.mul_(per_luminance).sub_(by_product).mul_(structure)
                by_mean.addcmul_(weight_y, mean_y, value=-1)
                ctx.save_for_backward(x, y, by_mean, by_product, structure.mul_(by_product))
            ctx.shape, ctx.dtype = recon.shape, recon.dtype
            return 1 - similarity

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor]:
        x, y, by_mean, by_product, by_square = ctx.saved_tensors
        B, C, H, W = ctx.shape
        with torch.autocast(x.device.type, enabled=False):
            gradient, from_product, from_square = _apply_to_each(_blur_adjoint, by_mean, by_product, by_square)
            gradient.addcmul_(x, from_product).addcmul_(y, from_square, value=-1)
            scale = grads[0].to(x.dtype).mul(-2 / (C * H * W)).repeat_interleave(C)
            gradient.mul_(scale.view(1, B * C, 1, 1))
        return None, gradient.reshape(ctx.shape).to(ctx.dtype).contiguous()


def _to_planes(images: Tensor) -> Tensor:
    """Return (1, P, H, W) in fp32 or fp64. On a CPU, grouped convolutions are fastest on interleaved planes."""
    planes = images.to(torch.float64 if images.dtype == torch.float64 else torch.float32)
    planes = planes.detach().reshape(1, -1, *images.shape[-2:])
    on_cpu = images.device.type == "cpu"
    return planes.contiguous(memory_format=torch.channels_last if on_cpu else torch.contiguous_format)


def _apply_to_each(blur: Callable[[Tensor], Tensor], *planes: Tensor) -> Sequence[Tensor]:
    """Apply a function of planes to several groups of planes.

    On a device all groups are in one call, which launches fewer kernels and is computed in fp32 whatever the flags:
    a convolution of two or more contiguous planes is depthwise, but that of a single plane is an ordinary one, for
    which cuDNN may use TF32. On a CPU separate calls make better use of the cache.
    """
    if planes[0].device.type == "cpu":
        return [blur(group) for group in planes]
    return blur(torch.cat(planes, dim=1)).chunk(len(planes), dim=1)


def _blur_adjoint(planes: Tensor) -> Tensor:
    """Apply the transpose of blur_planes: values of the reflected border are added to the pixels they came from."""
    r = WINDOW_RADIUS
    window = build_window(planes).expand(planes.shape[1], 1, 1, -1)
    for kernel, dim in ((window, 3), (window.transpose(2, 3), 2)):
        size = planes.shape[dim]
        wide = F.conv2d(planes, kernel, groups=len(window), padding=(0, 2 * r) if dim == 3 else (2 * r, 0))
        planes = wide.narrow(dim, r, size).clone()
        planes.narrow(dim, 1, r).add_(wide.narrow(dim, 0, r).flip(dim))
        planes.narrow(dim, size - 1 - r, r).add_(wide.narrow(dim, size + r, r).flip(dim))
    return planes
