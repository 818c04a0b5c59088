"""Sample from a PixelCNN with a cache, so that each code is computed once; Ramachandran et al. 2017.

The vertical stack advances a row at a time, the horizontal stack a code at a time. Each layer caches what later codes
need of the earlier ones: the last few rows of the vertical stack and the current row of the horizontal stack.

Shapes: B maps, h w grid, C channels of both stacks, K codes.
"""

import math
from dataclasses import dataclass, replace
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqdist.foundation.errors import Problem, UserError
from vqdist.models.cuda_graphs import GraphedRow, can_capture
from vqdist.models.gated_layers import Context, GatedLayer, MirroredRows
from vqdist.models.given_codes import GivenCodes, GivenRow
from vqdist.models.map_conditions import MapConditions
from vqdist.models.previous_map import PreviousMap

MIN_GRAPHED_ROWS = 8  # a capture takes about as long as three rows


class SampledModel(Protocol):
    """The parts of a PixelCNN that the sampler uses."""

    num_codes: int
    embedding: nn.Embedding
    context: Context
    opposite: MirroredRows | None
    previous: PreviousMap | None
    layers: nn.ModuleList
    head: nn.Sequential


@dataclass(frozen=True)
class SamplingOptions:
    """How a code is sampled from its logits; attributes as in PixelCNN.sample."""

    noise: Tensor | None = None
    temperature: float = 1.0
    top_k: int = 0
    guidance: float = 0.0

    def check(self, num: int, grid: tuple[int, int], num_codes: int) -> None:
        """Raise UserError with every argument of a sample that is out of range."""
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
        if not math.isfinite(self.guidance):
            problems.append(Problem("guidance", str(self.guidance), "a finite number; 0: no guidance"))
        if self.noise is not None and self.noise.shape != (num, h * w, num_codes):
            expected = f"shape {(num, h * w, num_codes)}"
            problems.append(Problem("noise", f"shape {tuple(self.noise.shape)}", expected))
        if problems:
            raise UserError(problems)

    def row_noise(self, y: int, shape: tuple[int, int, int], like: Tensor) -> Tensor:
        """Return the noise of row y on the device and in the dtype of `like`.

        Args:
            shape: (B, w, K).
        """
        if self.temperature == 0:
            return like.new_zeros(()).expand(shape)
        if self.noise is not None:
            w = shape[1]
            return self.noise[:, y * w : (y + 1) * w].to(like)
        # From uniform numbers, in place: torch's exponential numbers take several times as long on a CPU.
        uniform = torch.rand(shape, device=like.device, dtype=like.dtype)
        return uniform.log_().neg_().log_().neg_()

    def guide(self, logits: Tensor) -> Tensor:
        """Return guided logits (B, K) of logits (2 B, K): those with conditions, then those without.

        Without guidance there are only those with conditions, (B, K). Ho and Salimans 2022, eq. 6.
        """
        if not self.guidance:
            return logits
        conditional, unconditional = logits.chunk(2)
        return (1 + self.guidance) * conditional - self.guidance * unconditional

    def choose(self, logits: Tensor, noise: Tensor) -> Tensor:
        """Return the codes (B,) sampled from logits (B, K) with noise (B, K). Overwrites the logits."""
        if self.temperature == 0:
            return logits.argmax(dim=1)
        if self.top_k:
            logits, codes = logits.topk(self.top_k, dim=1)
            pick = logits.div_(self.temperature).add_(noise.gather(1, codes)).argmax(dim=1, keepdim=True)
            return codes.gather(1, pick)[:, 0]
        return logits.div_(self.temperature).add_(noise).argmax(dim=1)


def sample_codes(
    model: SampledModel,
    num: int,
    grid: tuple[int, int],
    options: SamplingOptions,
    known: MapConditions,
    *,
    given: GivenCodes | None = None,
) -> Tensor:
    """Sample code maps (num, h, w), one code at a time in raster order; arguments as in PixelCNN.sample.

    Args:
        known: those that the model is conditioned on.
        given: the codes to start from, which are kept unless their bits exceed their limits; None: all are sampled.
    """
    weight = model.embedding.weight
    with torch.inference_mode(), torch.autocast(weight.device.type, enabled=False):
        known = known.to(weight.device)
        copies = 2 if options.guidance else 1  # of each map: with conditions and without
        known = known.join(known.hide_all()) if options.guidance else known
        h, w = grid
        cache = _Cache(model, num, w, copies=copies)
        codes = torch.empty(h, w, num, dtype=torch.int64, device=weight.device)
        if options.noise is not None:
            options = replace(options, noise=options.noise.to(weight))  # at once: a copy in each row would wait
        rows: list[GivenRow | None] = [None] * h
        if given is not None:
            codes.copy_(given.codes.permute(1, 2, 0))
            rows = [*given.list_rows(weight.device)]
        if num and rows.count(None) >= MIN_GRAPHED_ROWS and can_capture(weight.device):
            cache.capture_row(options, weight.new_zeros(num, w, model.num_codes), torch.zeros_like(codes[0]))
        before = None if model.previous is None else model.previous.read(known.previous, model.embedding, drop=False)
        middle, opposite = h - h // 2, None  # first row below the middle; its and the later rows' mirrored features
        for y, row in enumerate(rows if num else []):
            context = model.context.rows(h, w, known, first=y, last=y + 1)[:, 0]
            if before is not None:
                context = context + (before if before.ndim == 1 else before[:, y])
            if model.opposite is not None and y == middle:
                upper = codes[: h - middle].permute(2, 0, 1).repeat(copies, 1, 1)
                opposite = model.opposite(model.embedding(upper), drop=False)
            if opposite is not None:
                context = context + opposite[:, y - middle]
            cache.advance_rows(y, context)
            if row is not None and not row.end:
                cache.skip_row(codes[y])
                continue
            cache.sample_row(options, options.row_noise(y, (num, w, model.num_codes), weight), codes[y], row)
    # Cloned outside of inference mode: the result is an ordinary tensor.
    return codes.permute(2, 0, 1).clone(memory_format=torch.contiguous_format)


class _Cache:
    """The caches of all layers for `copies` times `num` maps of width w; the copies of a map have the same codes."""

    def __init__(self, model: SampledModel, num: int, w: int, *, copies: int = 1) -> None:
        weight = model.embedding.weight
        self.embedding, self.copies = weight, copies
        num = copies * num
        self.layers = [_CachedLayer(layer, num, w) for layer in model.layers if isinstance(layer, GatedLayer)]
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


class _CachedLayer:
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
