"""The cache of a sampler of code maps: what later codes need of the earlier ones, layer by layer.

The vertical stack advances a row at a time, the horizontal stack a code at a time. Each layer caches the last few rows
of the vertical stack and the current row of the horizontal stack.

Shapes: B maps, w columns, C channels of both stacks, K codes.
"""

import math
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqdist.models.cuda_graphs import GraphedRow
from vqdist.models.gated_layers import Context, GatedLayer, MirroredRows
from vqdist.models.given_codes import GivenRow
from vqdist.models.previous_map import PreviousMap
from vqdist.models.sampling_options import SamplingOptions


class SampledModel(Protocol):
    """The parts of a PixelCNN that the sampler uses."""

    num_codes: int
    embedding: nn.Embedding
    context: Context
    opposite: MirroredRows | None
    previous: PreviousMap | None
    layers: nn.ModuleList
    head: nn.Sequential


class SamplerCache:
    """The caches of all layers for `copies` times `num` maps of width w; the copies of a map have the same codes."""

    def __init__(self, model: SampledModel, num: int, w: int, *, copies: int = 1) -> None:
        weight = model.embedding.weight
        self.embedding, self.copies = weight, copies
        num = copies * num
        self.layers = [CachedLayer(layer, num, w) for layer in model.layers if isinstance(layer, GatedLayer)]
        C = weight.shape[1]
        self.residual = weight.new_zeros(num, w, C)  # the context, which the first layer adds
        self.last = weight.new_empty(num, w, C)
        self.first, self.second = model.head[1], model.head[3]
        self.steps = [self._views(x) for x in range(w)]
        self.graph: GraphedRow | None = None

    def _views(self, x: int) -> list[tuple[Tensor, ...]]:
        """Return the tensors that each layer reads and writes at column x; the same views serve all rows."""
        residuals = [self.residual[:, x], *(layer.cell(x) for layer in self.layers[1:])]
        outputs = [*(layer.cell(x) for layer in self.layers[1:]), self.last[:, x]]
        return [
            (*layer.views(x), residual, output)
            for layer, residual, output in zip(self.layers, residuals, outputs, strict=True)
        ]

    def advance_rows(self, y: int, context: Tensor) -> None:
        """Advance the vertical stack to row y, from the codes of the rows above.

        Args:
            context: (B or 1, w, C), of row y.
        """
        newest = self.layers[0].sampled_row()
        residual = self.residual.copy_(context)
        for layer in self.layers:
            newest = residual = layer.advance_rows(y, newest, residual)

    def skip_row(self, codes: Tensor) -> None:
        """Take the codes of the current row, (w, B), as they are: only the vertical stack of later rows needs them."""
        self.layers[0].sampled_row().copy_(self._embed(codes.t()))

    def capture_row(self, options: SamplingOptions, noise: Tensor, codes: Tensor) -> None:
        """Capture a CUDA graph that samples all codes of a row; must be called before the first row.

        Args:
            noise, codes: as for `sample_row`; the graph keeps their memory.
        """
        self.graph = GraphedRow.capture(lambda *row: self._sample_columns(options, *row), noise, codes)
        for layer in self.layers:
            layer.left.zero_()  # the calls for the capture have written to it

    def sample_row(self, options: SamplingOptions, noise: Tensor, codes: Tensor, given: GivenRow | None = None) -> None:
        """Sample the codes of the current row, column after column.

        Args:
            noise: (B, w, K).
            codes: (w, B) int64; overwritten up to the end of `given`.
            given: codes that are kept or redrawn; None: all are sampled.
        """
        if self.graph is not None and given is None:
            self.graph.run(noise, codes)
        else:
            self._sample_columns(options, noise, codes, given)

    def take(self, maps: Tensor) -> None:
        """Replace the maps by those of some numbers, (B,), at the end of a row."""
        assert self.copies == 1, "maps with and without conditions are not replaced together"
        for layer in self.layers:
            for held in (layer.ring, layer.left):
                held.copy_(held[maps])

    def _sample_columns(
        self, options: SamplingOptions, noise: Tensor, codes: Tensor, given: GivenRow | None = None
    ) -> None:
        steps = self.steps if given is None else self.steps[: given.end]
        for x, layers in enumerate(steps):
            for window, kernel, features, values, gates, gated, out, residual, output in layers:
                features.addmm_(window, kernel).sigmoid_()
                torch.addcmul(gates, values, gates, value=-2, out=gated)
                torch.addmm(residual, gated, out, out=output)
            logits = options.guide(self.second(F.silu(self.first(F.silu(self.last[:, x])))))
            if given is None:
                codes[x] = options.choose(logits, noise[:, x])
            else:
                redrawn = given.find_redrawn(x, logits, codes[x])
                nats = None if given.result_bits is None else logits.log_softmax(dim=1).neg_()
                codes[x] = torch.where(redrawn, options.choose(logits, noise[:, x]), codes[x])
                if nats is not None and given.result_bits is not None:
                    given.result_bits[x] = nats.gather(1, codes[x][:, None])[:, 0] / math.log(2)
            self.layers[0].cell(x).copy_(self._embed(codes[x]))
        if len(steps) < len(codes):
            rest = slice(len(steps), len(codes))
            self.layers[0].sampled_row()[:, rest] = self._embed(codes[rest].t())

    def _embed(self, codes: Tensor) -> Tensor:
        """Return the embedded codes (B, ...) of all copies, (copies * B, ..., C)."""
        embedded = F.embedding(codes, self.embedding)
        return embedded if self.copies == 1 else embedded.repeat(self.copies, *[1] * codes.ndim)


class CachedLayer:
    """The weights of one layer in the form that the sampler multiplies by, and the cache of that layer.

    tanh(x) is computed as 2 sigmoid(2 x) - 1, with the inner 2 in the weights, so that one sigmoid serves both halves;
    on a CPU it is several times as fast as tanh. gates - 2 values * gates, a single operation, is the negative of the
    gated values; the weights behind it carry the minus sign.
    """

    def __init__(self, layer: GatedLayer, num: int, w: int) -> None:
        C = layer.out.in_features
        _, _, size, width = layer.vertical.weight.shape
        self.size, self.reach, self.num, self.w = size, width // 2, num, w
        scale = layer.out.weight.new_ones(2 * C)
        scale[:C] = 2
        vertical = layer.vertical.weight * scale[:, None, None, None]
        assert layer.vertical.bias is not None
        self.vertical_bias = layer.vertical.bias * scale
        # One kernel per place of the newest row in the ring buffer: rows are never moved.
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

    def sampled_row(self) -> Tensor:
        """Return the horizontal stack's inputs to this layer in the row sampled last, (B, w, C)."""
        return self.left[:, self.reach :]

    def cell(self, x: int) -> Tensor:
        """Return the horizontal stack's input to this layer at column x, (B, C), as a view."""
        return self.left[:, self.reach + x]

    def views(self, x: int) -> tuple[Tensor, ...]:
        """Return the tensors of this layer's horizontal stack at column x."""
        window = self.left[:, x : x + self.size].view(self.num, self.horizontal.shape[0])
        features = self.features[:, x]
        return window, self.horizontal, features, *features.chunk(2, dim=1), self.gated, self.out

    def advance_rows(self, y: int, newest: Tensor, residual: Tensor) -> Tensor:
        """Return the vertical stack's output at row y, (B, w, C), and write its share of the gates to `features`."""
        self.ring[:, y % self.size] = newest
        kernel = self.kernels[(y + 1) % self.size]
        features = F.conv2d(self.ring.permute(0, 3, 1, 2), kernel, self.vertical_bias, padding=(0, self.reach))
        opened = features.permute(0, 2, 3, 1)[:, 0].sigmoid_()  # (B, w, 2 C)
        values, gates = opened.chunk(2, dim=-1)
        above = residual - torch.addcmul(gates, values, gates, value=-2)
        C = above.shape[-1]
        torch.addmm(self.across_bias, above.reshape(-1, C), self.across, out=self.features.view(-1, 2 * C))
        return above
