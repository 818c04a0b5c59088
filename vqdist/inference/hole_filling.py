"""Fill a hole of an image smoothly from its border, and join two images without a visible seam.

The filled values are the solution of the Laplace equation with the border as boundary values (a membrane). Added to a
new content of the hole, the membrane of the differences at the border is Poisson image editing (Perez et al. 2003).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

SWEEPS = 40  # Jacobi iterations at each resolution; coarser ones have filled the low frequencies before
MIN_SIDE = 4
MARGIN = 8  # pixels around a hole that are part of the computation


def fill_hole(images: Tensor, hole: Tensor) -> Tensor:
    """Return images whose pixels in a hole are interpolated harmonically from those around it.

    Args:
        images: (B, C, H, W).
        hole: (H, W) bool. If it covers everything, the result is 0 there.
    """
    if not bool(hole.any()):
        return images
    rows, columns = _bounding_box(hole)
    filled = images.clone()
    filled[..., rows, columns] = _solve(images[..., rows, columns], hole[rows, columns])
    return filled


def paste_without_seam(images: Tensor, content: Tensor, hole: Tensor) -> Tensor:
    """Return images with new content in a hole, shifted smoothly in grey value so that it fits the border.

    Args:
        images: (B or 1, C, H, W).
        content: (B, C, H, W) in [0, 1], defined inside and around the hole.
        hole: (H, W) bool.
    """
    joined = (content + fill_hole(images - content, hole)).clamp(0, 1)
    return torch.where(hole, joined, images)


def _bounding_box(hole: Tensor) -> tuple[slice, slice]:
    spans = []
    for axis in (1, 0):
        inside = hole.any(dim=axis).nonzero()[:, 0]
        spans.append(slice(max(int(inside[0]) - MARGIN, 0), int(inside[-1]) + MARGIN + 1))
    return spans[0], spans[1]


def _solve(images: Tensor, hole: Tensor) -> Tensor:
    height, width = hole.shape
    known = (~hole).to(images.dtype)
    if min(height, width) >= 2 * MIN_SIDE and bool(hole.any()):
        pad = (0, width % 2, 0, height % 2)
        weight = F.avg_pool2d(F.pad(known, pad)[None, None], 2)
        coarse = F.avg_pool2d(F.pad(images * known, pad), 2) / weight.clamp(min=1e-6)
        below = _solve(coarse, weight[0, 0] == 0)
        start = F.interpolate(below, scale_factor=2.0, mode="bilinear")[..., :height, :width]
    else:
        mean = (images * known).sum(dim=(2, 3), keepdim=True) / known.sum().clamp(min=1)
        start = mean.expand(images.shape)
    values = torch.where(hole, start, images)
    for _ in range(SWEEPS):
        around = F.pad(values, (1, 1, 1, 1), mode="replicate")
        mean = (around[..., :-2, 1:-1] + around[..., 2:, 1:-1] + around[..., 1:-1, :-2] + around[..., 1:-1, 2:]) / 4
        values = torch.where(hole, mean, values)
    return values
