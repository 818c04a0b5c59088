"""Sampling from a PixelCNN, each code computed once: the vertical stack a row at a time, the horizontal a code.

What a later code needs of the earlier ones is kept per layer: the last few rows of the vertical stack
and the current row of the horizontal one. Ramachandran et al. 2017.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from vqdist.foundation.errors import Problem, UserError

if TYPE_CHECKING:
    from vqdist.models.pixelcnn import GatedLayer, PixelCNN


@dataclass(frozen=True)
class SamplingOptions:
    """How a code is drawn from its logits: argmax of logits / temperature + Gumbel noise among the top_k."""

    noise: Tensor | None = None
    temperature: float = 1.0
    top_k: int = 0

    def check(self, num: int, grid: tuple[int, int], num_codes: int) -> None:
        """Raise UserError unless the arguments of a sample fit together; all problems at once."""
        h, w = grid
        problems = []
        if num < 0:
            problems.append(Problem("num", str(num), "a whole number"))
        if h < 1 or w < 1:
            problems.append(Problem("grid", f"{h} x {w}", "at least 1 x 1"))
        if not 0 <= self.temperature < math.inf:
            problems.append(Problem("temperature", str(self.temperature), "a finite number of at least 0"))
        if not 0 <= self.top_k <= num_codes:
            problems.append(Problem("top_k", str(self.top_k), f"0 for all, or up to {num_codes} codes"))
        if self.noise is not None and self.noise.shape != (num, h * w, num_codes):
            expected = f"shape {(num, h * w, num_codes)}"
            problems.append(Problem("noise", f"shape {tuple(self.noise.shape)}", expected))
        if problems:
            raise UserError(problems)

    def row_noise(self, y: int, shape: tuple[int, int, int], like: Tensor) -> Tensor:
        """Return the noise of row y, (B, w, K) as `shape` says, on the device and of the type of `like`.

        Made from uniform numbers, in place: torch's exponential numbers take several times as long on a CPU.
        """
        if self.temperature == 0:
            return like.new_zeros(()).expand(shape)
        if self.noise is not None:
            w = shape[1]
            return self.noise[:, y * w : (y + 1) * w].to(like)
        uniform = torch.rand(shape, device=like.device, dtype=like.dtype)
        return uniform.log_().neg_().log_().neg_()

    def choose(self, logits: Tensor, noise: Tensor) -> Tensor:
        """Return the codes, (B,), drawn from (B, K) logits with (B, K) noise. Overwrites the logits."""
        if self.temperature == 0:
            return logits.argmax(dim=1)
        if self.top_k:
            logits, codes = logits.topk(self.top_k, dim=1)
            pick = logits.div_(self.temperature).add_(noise.gather(1, codes)).argmax(dim=1, keepdim=True)
            return codes.gather(1, pick)[:, 0]
        return logits.div_(self.temperature).add_(noise).argmax(dim=1)


def sample_codes(
    model: "PixelCNN",
    num: int,
    grid: tuple[int, int],
    draw: SamplingOptions,
    *,
    label: Tensor | None,
    slice: Tensor | None,
) -> Tensor:
    """Return (num, h, w) codes drawn one by one in raster order, as `PixelCNN.sample` tells."""
    weight = model.embedding.weight
    with torch.inference_mode(), torch.autocast(weight.device.type, enabled=False):
        label, slice = (None if value is None else value.to(weight.device) for value in (label, slice))
        h, w = grid
        cache = _Cache(model, num, w)
        codes = torch.empty(h, w, num, dtype=torch.int64, device=weight.device)
        middle, opposite = h - h // 2, None  # the first row below the middle; what is known of those from above it
        for y in range(h if num else 0):
            context = model.context.rows(h, w, first=y, last=y + 1, label=label, slice=slice)[:, 0]
            if model.opposite is not None and y == middle:
                opposite = model.opposite(model.embedding(codes[: h - middle].permute(2, 0, 1)), drop=False)
            if opposite is not None:
                context = context + opposite[:, y - middle]
            cache.advance_rows(y, context)
            cache.draw_row(draw, draw.row_noise(y, (num, w, model.num_codes), weight), codes[y])
    # Outside of inference mode, so that the caller may do with it whatever a tensor is good for.
    return codes.permute(2, 0, 1).clone(memory_format=torch.contiguous_format)


class _Cache:
    """All layers' caches for `num` maps of width w, and the loop over the codes of a row."""

    def __init__(self, model: "PixelCNN", num: int, w: int) -> None:
        weight = model.embedding.weight
        self.embedding = weight
        self.layers = [_CachedLayer(cast("GatedLayer", layer), num, w) for layer in model.layers]
        C = weight.shape[1]
        self.residual = weight.new_zeros(num, w, C)  # what the first layer adds its output to: the context
        self.last = weight.new_empty(num, w, C)
        self.first, self.second = model.head[1], model.head[3]
        self.steps = [self._views(x) for x in range(w)]

    def _views(self, x: int) -> list[tuple[Tensor, ...]]:
        """Return for each layer the tensors that it reads and writes at column x, made once for all rows."""
        residuals = [self.residual[:, x], *(layer.cell(x) for layer in self.layers[1:])]
        outputs = [*(layer.cell(x) for layer in self.layers[1:]), self.last[:, x]]
        return [
            (*layer.views(x), residual, output)
            for layer, residual, output in zip(self.layers, residuals, outputs, strict=True)
        ]

    def advance_rows(self, y: int, context: Tensor) -> None:
        """Take the vertical stack to row y, which needs the codes of the rows above only; context (B or 1, w, C)."""
        newest = self.layers[0].drawn_row()
        residual = self.residual.copy_(context)
        for layer in self.layers:
            newest = residual = layer.advance_rows(y, newest, residual)

    def draw_row(self, draw: SamplingOptions, noise: Tensor, codes: Tensor) -> None:
        """Draw the codes of the current row, (w, B), one after the other."""
        for x, layers in enumerate(self.steps):
            for window, kernel, features, values, gates, gated, out, residual, output in layers:
                features.addmm_(window, kernel).sigmoid_()
                torch.addcmul(gates, values, gates, value=-2, out=gated)
                torch.addmm(residual, gated, out, out=output)
            logits = self.second(F.silu(self.first(F.silu(self.last[:, x]))))
            codes[x] = draw.choose(logits, noise[:, x])
            self.layers[0].cell(x).copy_(F.embedding(codes[x], self.embedding))


class _CachedLayer:
    """One layer's weights as the sampler multiplies by them, and what it must remember.

    The tanh is taken as 2 sigmoid(2 x) - 1, the inner 2 in the weights, so that one sigmoid, on a CPU several times as
    fast, serves both halves; gates - 2 values * gates, a single operation, is then minus the gated values, and the
    minus goes into the weights behind.
    """

    def __init__(self, layer: "GatedLayer", num: int, w: int) -> None:
        C = layer.out.in_features
        _, _, size, width = layer.vertical.weight.shape
        self.size, self.reach, self.num, self.w = size, width // 2, num, w
        scale = layer.out.weight.new_ones(2 * C)
        scale[:C] = 2
        vertical = layer.vertical.weight * scale[:, None, None, None]
        assert layer.vertical.bias is not None
        self.vertical_bias = layer.vertical.bias * scale
        # One kernel per place of the newest row in the ring of rows: the ring then never moves.
        self.kernels = [
            vertical.roll(shift, dims=2).contiguous(memory_format=torch.channels_last) for shift in range(size)
        ]
        self.across = (layer.across.weight * scale[:, None]).t().contiguous()
        self.across_bias = layer.across.bias * scale
        kernel = layer.horizontal.weight[:, :, 0] * scale[:, None, None]  # (2 C, C, size)
        self.horizontal = kernel.permute(2, 1, 0).reshape(size * C, 2 * C)
        self.out = -layer.out.weight.t().contiguous()
        self.ring = scale.new_zeros(num, size, w, C)
        self.left = scale.new_zeros(num, self.reach + w, C)  # the margin stays zero
        self.features = scale.new_empty(num, w, 2 * C)
        self.gated = scale.new_empty(num, C)

    def drawn_row(self) -> Tensor:
        """Return this layer's inputs of the horizontal stack in the row drawn last, (B, w, C)."""
        return self.left[:, self.reach :]

    def cell(self, x: int) -> Tensor:
        """Return where this layer's input of the horizontal stack at column x lies, (B, C)."""
        return self.left[:, self.reach + x]

    def views(self, x: int) -> tuple[Tensor, ...]:
        """Return what this layer's part of the horizontal stack works on at column x."""
        window = self.left[:, x : x + self.size].view(self.num, self.horizontal.shape[0])
        features = self.features[:, x]
        return window, self.horizontal, features, *features.chunk(2, dim=1), self.gated, self.out

    def advance_rows(self, y: int, newest: Tensor, residual: Tensor) -> Tensor:
        """Return the vertical stack's output at row y, (B, w, C), and leave its share of the gates in `features`."""
        self.ring[:, y % self.size] = newest
        kernel = self.kernels[(y + 1) % self.size]
        features = F.conv2d(self.ring.permute(0, 3, 1, 2), kernel, self.vertical_bias, padding=(0, self.reach))
        opened = features.permute(0, 2, 3, 1)[:, 0].sigmoid_()  # (B, w, 2 C)
        values, gates = opened.chunk(2, dim=-1)
        above = residual - torch.addcmul(gates, values, gates, value=-2)
        C = above.shape[-1]
        torch.addmm(self.across_bias, above.reshape(-1, C), self.across, out=self.features.view(-1, 2 * C))
        return above
