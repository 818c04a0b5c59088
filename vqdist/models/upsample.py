"""The decoder's transposed convolution, in the forms that are fast on a CPU.

Shapes: B batch, I and O channels in and out, H W the smaller image.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# oneDNN pads the output channels of a transposed convolution, so that one channel costs as much as 16.
FEW_CHANNELS = 8


class Upsample(nn.ConvTranspose2d):
    """A 4x4 transposed convolution of stride 2: (B, I, H, W) to (B, O, 2 H, 2 W).

    On a CPU the gradient of the weights is taken as that of the convolution that it transposes, which gives
    the same numbers in half the time; an image of few channels is made by one convolution over its four
    phases. Elsewhere it is nn.ConvTranspose2d.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 4, stride=2, padding=1)

    def forward(self, features: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Return the features at twice the size."""
        if features.device.type != "cpu":
            return super().forward(features, output_size)
        assert self.bias is not None
        weight, bias = self.weight, self.bias
        if torch.is_autocast_enabled("cpu"):
            dtype = torch.get_autocast_dtype("cpu")
            features, weight, bias = features.to(dtype), weight.to(dtype), bias.to(dtype)
        upsampled: Tensor = _Upsample.apply(features, weight, bias)
        return upsampled


class _Upsample(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(features, weight)
        if weight.shape[1] < FEW_CHANNELS:
            return _by_phases(features, weight, bias)
        return F.conv_transpose2d(features, weight, bias, 2, 1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        features, weight = ctx.saved_tensors
        (grad,) = grads
        wanted = ctx.needs_input_grad
        return (
            F.conv2d(grad, weight, None, 2, 1) if wanted[0] else None,
            _weight_gradient(grad, features, weight) if wanted[1] else None,
            grad.sum((0, 2, 3)) if wanted[2] else None,
        )


def _weight_gradient(grad: Tensor, features: Tensor, weight: Tensor) -> Tensor:
    # Not torch.nn.grad.conv2d_weight: without the weight's strides it copies channels_last features.
    no_bias, stride, padding, dilation, groups = None, (2, 2), (1, 1), (1, 1), 1
    only_weight = (False, True, False)
    found: Tensor = torch.ops.aten.convolution_backward(
        features, grad, weight, no_bias, stride, padding, dilation, False, (0, 0), groups, only_weight
    )[1]
    return found


def _by_phases(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Even and odd rows and columns of the output each see 2 x 2 inputs: four 2x2 convolutions, done as one."""
    B, wide, H, W = features.shape
    narrow = weight.shape[1]
    # Row 2 m + p of the output sums, over t, row m - 1 + p + t of the input times row 3 - p - 2 t of the kernel.
    phases = weight.flip(2, 3).view(wide, narrow, 2, 2, 2, 2).permute(3, 5, 1, 0, 2, 4).reshape(4 * narrow, wide, 2, 2)
    # (B, 4 O, H + 1, W + 1): the odd phases start a row or a column later.
    sums = F.conv2d(features, phases, bias.repeat(4), padding=1).unflatten(1, (2, 2, narrow))
    rows = [torch.stack([sums[:, p, q, :, p : p + H, q : q + W] for q in (0, 1)], -1) for p in (0, 1)]
    upsampled = sums.new_empty(B, narrow, 2 * H, 2 * W)  # not a view, so that an activation may work in place
    torch.stack(rows, 3, out=upsampled.view(B, narrow, H, 2, W, 2))
    return upsampled
