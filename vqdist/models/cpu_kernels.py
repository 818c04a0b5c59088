"""Operations optimized for CPUs, each beside an equivalent plain implementation that other devices use.

Shapes: n latents, D code size, K codes; B batch, I and O channels in and out, H W the smaller image.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

CONV_BATCH = 16
ARGMIN_BLOCK = 32
# oneDNN pads the output channels of a transposed convolution: one channel costs as much as 16.
FEW_CHANNELS = 8


class CodeSearch:
    """Nearest codes by one matrix product and an argmin: the plain form.

    Compares |e|^2 - 2 z e, the squared distance without |z|^2, which is the same for all codes.

    Args:
        codebook: (K, D) fp32 or fp64.
    """

    def __init__(self, codebook: Tensor) -> None:
        self.norms = codebook.square().sum(1)
        self.weight = codebook * -2

    @property
    def row_bytes(self) -> int:
        """Memory of the distances of one latent."""
        return len(self.norms) * self.norms.element_size()

    def __call__(self, latents: Tensor) -> Tensor:
        """Return the codes (n,) int64 of latents (n, D) of the codebook's dtype; ties take the lower index."""
        return torch.addmm(self.norms, latents, self.weight.t()).argmin(1)


class CPUCodeSearch(CodeSearch):
    """CodeSearch with a 1x1 convolution as the matrix product, and an argmin over blocks of codes.

    oneDNN's convolution uses AVX-512 on every CPU that has it; torch.mm calls MKL, which does not on AMD.
    The argmin first finds the block with the smallest distance: amin is vectorised, argmin is not.
    """

    def __init__(self, codebook: Tensor) -> None:
        super().__init__(codebook)
        self.in_blocks = len(codebook) >= 4 * ARGMIN_BLOCK
        if self.in_blocks:
            padding = -len(codebook) % ARGMIN_BLOCK
            self.norms = F.pad(self.norms, (0, padding), value=torch.inf)
            self.weight = F.pad(self.weight, (0, 0, 0, padding))

    def __call__(self, latents: Tensor) -> Tensor:
        distances = self._compute_distances(latents)
        if not self.in_blocks:
            return distances.argmin(1)
        blocks = distances.view(len(latents), -1, ARGMIN_BLOCK)
        block = blocks.amin(2).argmin(1)
        within = blocks[torch.arange(len(latents), device=latents.device), block].argmin(1)
        return within.add_(block, alpha=ARGMIN_BLOCK)

    def _compute_distances(self, latents: Tensor) -> Tensor:
        n, D = latents.shape
        if n % CONV_BATCH or latents.dtype == torch.float64:
            return torch.addmm(self.norms, latents, self.weight.t())
        maps = latents.view(CONV_BATCH, n // CONV_BATCH, 1, D).permute(0, 3, 1, 2)
        return F.conv2d(maps, self.weight[:, :, None, None], self.norms).permute(0, 2, 3, 1).reshape(n, -1)


def plain_conv_transpose(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Apply a 4x4 transposed convolution of stride 2.

    Args:
        features: (B, I, H, W).
        weight: (I, O, 4, 4).
        bias: (O,).
    Returns:
        (B, O, 2 H, 2 W).
    """
    return F.conv_transpose2d(features, weight, bias, 2, 1)


def conv_transpose(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Compute plain_conv_transpose with a fast form on a CPU.

    The gradient of the weights is computed as that of the convolution that is transposed, in half the time. Fewer than
    FEW_CHANNELS output channels are computed by one convolution over the four phases of the output.
    """
    if features.device.type != "cpu":
        return plain_conv_transpose(features, weight, bias)
    if torch.is_autocast_enabled("cpu"):  # autocast does not reach into an autograd.Function
        dtype = torch.get_autocast_dtype("cpu")
        features, weight, bias = features.to(dtype), weight.to(dtype), bias.to(dtype)
    result: Tensor = _ConvTranspose.apply(features, weight, bias)
    return result


class _ConvTranspose(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(features, weight)
        if weight.shape[1] < FEW_CHANNELS:
            return _conv_transpose_by_phases(features, weight, bias)
        return plain_conv_transpose(features, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        features, weight = ctx.saved_tensors
        (grad,) = grads
        for_features, for_weight, for_bias = ctx.needs_input_grad
        return (
            F.conv2d(grad, weight, None, 2, 1) if for_features else None,
            _compute_weight_gradient(grad, features, weight) if for_weight else None,
            grad.sum((0, 2, 3)) if for_bias else None,
        )


def _compute_weight_gradient(grad: Tensor, features: Tensor, weight: Tensor) -> Tensor:
    # torch.nn.grad.conv2d_weight does not pass the strides of the weight: it would copy channels_last features.
    no_bias, stride, padding, dilation, groups = None, (2, 2), (1, 1), (1, 1), 1
    only_weight = (False, True, False)
    gradient: Tensor = torch.ops.aten.convolution_backward(
        features, grad, weight, no_bias, stride, padding, dilation, False, (0, 0), groups, only_weight
    )[1]
    return gradient


def _conv_transpose_by_phases(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Compute even and odd rows and columns of the output, which see 2 x 2 inputs each, by one 2x2 convolution."""
    B, wide, H, W = features.shape
    narrow = weight.shape[1]
    # Row 2 m + p of the output sums, over t, row m - 1 + p + t of the input times row 3 - p - 2 t of the kernel.
    phases = weight.flip(2, 3).view(wide, narrow, 2, 2, 2, 2).permute(3, 5, 1, 0, 2, 4).reshape(4 * narrow, wide, 2, 2)
    # (B, 4 O, H + 1, W + 1): the odd phases begin one row or column later.
    sums = F.conv2d(features, phases, bias.repeat(4), padding=1).unflatten(1, (2, 2, narrow))
    rows = [torch.stack([sums[:, p, q, :, p : p + H, q : q + W] for q in (0, 1)], -1) for p in (0, 1)]
    upsampled = sums.new_empty(B, narrow, 2 * H, 2 * W)  # not a view: the next activation may be in place
    torch.stack(rows, 3, out=upsampled.view(B, narrow, H, 2, W, 2))
    return upsampled
