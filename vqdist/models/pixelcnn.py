"""The prior over maps of codes: a gated PixelCNN with two stacks (van den Oord et al. 2016)."""

import math
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqdist.foundation.errors import ConfigError, Problem, UserError
from vqdist.models import sampler

CONDITIONS = ("none", "label", "slice", "label+slice")
SYMMETRIES = ("none", "rows")

# Half waves over the map and over the range of slices; the highest tells single codes of a 32 x 32 map apart.
POSITION_WAVES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
SLICE_WAVES = (1, 2, 3, 4, 6, 8, 12, 16)

FIRST_LOGIT_STD = 0.01  # an almost flat first guess: the loss starts at log K


class PixelCNN(nn.Module):
    """Model the distribution of a map of codes, each code given all before it in raster order.

    Two stacks, so that no earlier code within reach is left out: the vertical one sees the rows above, the
    horizontal one the codes to the left and, through the vertical one, the rows above. Kernels are causal by
    their shape. Where in the map a code lies, and what the map is to show, enters both stacks behind the
    first layer as a context that the residual streams carry to every gate. van den Oord 2016, section 2.

    Of something that is alike on both sides of its middle row, the rows below the middle are foretold with the rows
    above it at hand, mirrored: all of those come first in raster order.

    Args:
        num_codes: K.
        hidden: channels of both stacks.
        layers: gated layers; each reaches kernel // 2 codes further up and to both sides.
        kernel: odd width of the full kernel of which a layer holds the causal part.
        dropout: share of the gated values that are dropped in training.
        condition: none, label, slice or label+slice.
        symmetry: rows for maps whose lower half looks like the upper one mirrored, as the two sides of a brain do.
        num_labels: labels are in [0, num_labels).
        num_slices: slice numbers are in [0, num_slices); also the length over which slices vary smoothly.
    Raises:
        ConfigError: an argument is out of its range; all problems together.
    """

    def __init__(
        self,
        num_codes: int,
        *,
        hidden: int = 64,
        layers: int = 15,
        kernel: int = 5,
        dropout: float = 0.0,
        condition: str = "none",
        symmetry: str = "none",
        num_labels: int = 64,
        num_slices: int = 256,
    ) -> None:
        super().__init__()
        self.config = {
            "num_codes": num_codes,
            "hidden": hidden,
            "layers": layers,
            "kernel": kernel,
            "dropout": dropout,
            "condition": condition,
            "symmetry": symmetry,
            "num_labels": num_labels,
            "num_slices": num_slices,
        }
        _check_config(self.config)
        self.num_codes, self.condition = num_codes, condition
        self.num_labels, self.num_slices = num_labels, num_slices
        self.embedding = nn.Embedding(num_codes, hidden)
        self.context = Context(hidden, condition=condition, num_labels=num_labels, num_slices=num_slices)
        self.opposite = Opposite(hidden, kernel, dropout=dropout) if symmetry == "rows" else None
        self.layers = nn.ModuleList(
            GatedLayer(hidden, kernel, first=index == 0, dropout=dropout) for index in range(layers)
        )
        last = nn.Linear(2 * hidden, num_codes)
        self.head = nn.Sequential(nn.SiLU(), nn.Linear(hidden, 2 * hidden), nn.SiLU(), last)
        nn.init.normal_(last.weight, std=FIRST_LOGIT_STD)
        nn.init.zeros_(last.bias)

    def forward(self, codes: Tensor, label: Tensor | None = None, slice: Tensor | None = None) -> Tensor:
        """Return the logits of every code given those before it.

        Args:
            codes: (B, h, w) int64 in [0, K).
            label: (B,) int64 in [0, num_labels), where the model is conditioned on it.
            slice: (B,) int64 in [0, num_slices), where the model is conditioned on it.
        Returns:
            (B, K, h, w) logits.
        Raises:
            UserError: a condition is missing, not asked for, of the wrong shape or out of range.
        """
        B, h, w = codes.shape
        self.check_conditions(B, label, slice)
        above = left = self.embedding(codes)  # (B, h, w, C)
        context = self.context.rows(h, w, label=label, slice=slice)
        if self.opposite is not None and h > 1:
            context = context + F.pad(self.opposite(above[:, : h // 2]), (0, 0, 0, 0, h - h // 2, 0))
        for layer in self.layers:
            above, left = layer(above, left, context)
        return self.head(left).permute(0, 3, 1, 2)

    def hidden_weights(self) -> list[nn.Parameter]:
        """Return the matrices and kernels between what goes in and what comes out: those of the gated layers."""
        parts = [self.layers] if self.opposite is None else [self.opposite, self.layers]
        return [weight for part in parts for weight in part.parameters() if weight.ndim > 1]

    @torch.no_grad()
    def start_from_codebook(self, codebook: Tensor) -> None:
        """Let codes that look alike start alike, both as what is seen and as what is foretold.

        What is learned of a code then holds from the start for those near it in the codebook; the weights are free
        to leave that behind.

        Args:
            codebook: (K, D) float, the vectors of the VQ-VAE that the codes came from.
        Raises:
            UserError: it is of another K.
        """
        if codebook.ndim != 2 or len(codebook) != self.num_codes:
            raise UserError.of("codebook", f"shape {tuple(codebook.shape)}", f"({self.num_codes}, D)")
        vectors = codebook.float() - codebook.float().mean(0)
        vectors = vectors / vectors.std().clamp(min=1e-6)
        last = self.head[-1]
        assert isinstance(last, nn.Linear)
        for weight, std in ((self.embedding.weight, 1.0), (last.weight, FIRST_LOGIT_STD)):
            weight.copy_(std * _turn(vectors, weight.shape[1]))

    def sample(
        self,
        num: int,
        grid: tuple[int, int],
        noise: Tensor | None = None,
        temperature: float = 1.0,
        top_k: int = 0,
        label: int | Tensor | None = None,
        slice: int | Tensor | None = None,
    ) -> Tensor:
        """Draw new maps of codes, one code at a time in raster order; dropout is off.

        A code is the argmax of logits / temperature + noise among the top_k, which for Gumbel noise is a
        draw from the softmax.

        Args:
            num: maps to draw, B.
            grid: (h, w) of a map; any size.
            noise: (num, h * w, K) Gumbel noise; drawn from torch's global generator where not given.
            temperature: 0 takes the likeliest code each time, whatever the noise.
            top_k: draw among the likeliest only; 0 draws among all.
            label: one label for all maps, or (num,) labels.
            slice: one slice number for all maps, or (num,) of them.
        Returns:
            (num, h, w) int64 codes.
        Raises:
            UserError: an argument is out of its range or does not fit the model.
        """
        draw = sampler.SamplingOptions(noise=noise, temperature=temperature, top_k=top_k)
        draw.check(num, grid, self.num_codes)
        labels, slices = _spread(label, num), _spread(slice, num)
        self.check_conditions(num, labels, slices)
        return sampler.sample_codes(self, num, grid, draw, label=labels, slice=slices)

    def check_conditions(self, num: int, label: Tensor | None, slice: Tensor | None) -> None:
        """Raise UserError unless the conditions are those that the model was built for.

        Values are looked at on the CPU only: on an accelerator that would wait for the device.
        """
        problems: list[Problem] = []
        for name, values, limit in (("label", label, self.num_labels), ("slice", slice, self.num_slices)):
            problems += _condition_problems(name, values, num=num, limit=limit, wanted=name in self.condition)
        if problems:
            raise UserError(problems)


class Context(nn.Module):
    """What is known of a code before any other: its place in the map, and the map's label and slice number.

    Place and slice number enter as waves: any grid fits, and neighbouring slices share what is alike in them.
    """

    def __init__(self, hidden: int, *, condition: str, num_labels: int, num_slices: int) -> None:
        super().__init__()
        self.num_slices = num_slices
        self.place = nn.Linear(4 * len(POSITION_WAVES), 2 * hidden)
        self.label = nn.Embedding(num_labels, 2 * hidden) if "label" in condition else None
        self.slice = nn.Linear(2 * len(SLICE_WAVES), 2 * hidden, bias=False) if "slice" in condition else None
        self.out = nn.Linear(2 * hidden, hidden)

    def rows(
        self,
        h: int,
        w: int,
        *,
        first: int = 0,
        last: int | None = None,
        label: Tensor | None = None,
        slice: Tensor | None = None,
    ) -> Tensor:
        """Return the context of rows [first, last) of an h x w map: (B or 1, rows, w, C)."""
        weight = self.place.weight
        row = (torch.arange(first, h if last is None else last, device=weight.device) + 0.5) / h
        column = (torch.arange(w, device=weight.device) + 0.5) / w
        row_part, column_part = self.place.weight.chunk(2, dim=1)
        hidden = (
            F.linear(waves(row, POSITION_WAVES).to(weight), row_part, self.place.bias)[:, None]
            + F.linear(waves(column, POSITION_WAVES).to(weight), column_part)[None]
        )[None]  # (1, rows, w, 2 C)
        if self.label is not None:
            hidden = hidden + self.label(label)[:, None, None]
        if self.slice is not None and slice is not None:
            share = (slice + 0.5) / self.num_slices
            hidden = hidden + self.slice(waves(share, SLICE_WAVES).to(weight))[:, None, None]
        return self.out(F.silu(hidden))


class Opposite(nn.Module):
    """What the rows above the middle of a map tell of those below it, each row of the row across from it.

    All rows above the middle come before any below it, so they are read in every direction.
    """

    LAYERS = 2

    def __init__(self, hidden: int, kernel: int, *, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv2d(hidden, 2 * hidden, kernel, padding=kernel // 2) for _ in range(self.LAYERS)
        )
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(hidden, hidden)

    def forward(self, features: Tensor, *, drop: bool = True) -> Tensor:
        """Return what the embedded rows above the middle, (B, h // 2, w, C), tell of the h // 2 rows below it.

        Args:
            drop: False for no dropout in training mode either, as the sampler wants it.
        """
        for layer in self.layers:
            gated = gate(_convolve(cast("nn.Conv2d", layer), features))
            features = features + (self.dropout(gated) if drop else gated)
        return self.out(features).flip(1)


class GatedLayer(nn.Module):
    """One layer of both stacks, channels last.

    The first layer sees only what comes before a code; behind it a stream at a place holds nothing of that
    place's own code, so later layers may look at the place itself and have residual connections.
    van den Oord 2016, figure 2.
    """

    def __init__(self, hidden: int, kernel: int, *, first: bool, dropout: float) -> None:
        super().__init__()
        self.reach = kernel // 2
        self.first = first
        size = self.reach if first else self.reach + 1
        self.vertical = nn.Conv2d(hidden, 2 * hidden, (size, kernel), padding=(0, self.reach))
        self.horizontal = nn.Conv2d(hidden, 2 * hidden, (1, size), bias=False)
        self.across = nn.Linear(hidden, 2 * hidden)
        self.out = nn.Linear(hidden, hidden, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, above: Tensor, left: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Return both streams, (B, h, w, C) each, one layer on."""
        crop = -1 if self.first else 0
        rows = F.pad(above, (0, 0, 0, 0, self.reach, crop))
        codes = F.pad(left, (0, 0, self.reach, crop))
        gated = self.dropout(gate(_convolve(self.vertical, rows)))
        above = gated + (context if self.first else above)
        gated = self.dropout(gate(_convolve(self.horizontal, codes) + self.across(above)))
        left = self.out(gated) + (context if self.first else left)
        return above, left


def gate(features: Tensor) -> Tensor:
    """Return tanh of the first half of the channels times the sigmoid of the second.

    van den Oord 2016, eq. 2.
    """
    values, gates = features.chunk(2, dim=-1)
    return torch.tanh(values) * torch.sigmoid(gates)


def waves(share: Tensor, frequencies: tuple[int, ...]) -> Tensor:
    """Return cosines and sines of shares of a length, (n,) in [0, 1]: (n, 2 * number of frequencies)."""
    angles = math.pi * share[:, None] * torch.tensor(frequencies, device=share.device)
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def _convolve(conv: nn.Conv2d, features: Tensor) -> Tensor:
    """Apply a convolution to (B, h, w, C) features; a permuted view is what channels_last means."""
    return conv(features.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def _turn(vectors: Tensor, size: int) -> Tensor:
    """Return vectors (n, D) in another number of dimensions, (n, size): turned at random, their variance kept."""
    D = vectors.shape[1]
    turn = nn.init.orthogonal_(vectors.new_empty(D, size))
    return vectors @ turn * math.sqrt(max(size / D, 1.0))


def _spread(value: int | Tensor | None, num: int) -> Tensor | None:
    """Return one value per map, on the CPU, where its range can be checked."""
    if value is None:
        return None
    values = torch.as_tensor(value).cpu()
    return values.expand(num) if values.ndim == 0 else values


def _condition_problems(name: str, values: Tensor | None, *, num: int, limit: int, wanted: bool) -> list[Problem]:
    if values is None:
        expected = f"{num} numbers in [0, {limit}), as the model is conditioned on {name}"
        return [Problem(name, "none", expected)] if wanted else []
    if not wanted:
        return [Problem(name, "a value", f"none, as the model is not conditioned on {name}")]
    if values.shape != (num,) or values.is_floating_point():
        found = f"{values.dtype} of shape {tuple(values.shape)}"
        return [Problem(name, found, f"int64 of shape ({num},)")]
    if values.device.type == "cpu" and not torch.compiler.is_compiling() and num > 0:
        low, high = int(values.min()), int(values.max())
        if low < 0 or high >= limit:
            return [Problem(name, str(low if low < 0 else high), f"a number in [0, {limit})")]
    return []


def _check_config(config: dict[str, Any]) -> None:
    """Raise ConfigError that lists every argument out of its range."""
    whole = {"num_codes": 1, "hidden": 1, "layers": 1, "num_labels": 1, "num_slices": 1}
    problems = [
        Problem(name, str(config[name]), f"a whole number of at least {least}")
        for name, least in whole.items()
        if config[name] < least
    ]
    if config["kernel"] < 3 or config["kernel"] % 2 == 0:
        problems.append(Problem("kernel", str(config["kernel"]), "an odd number of at least 3"))
    if not 0 <= config["dropout"] < 1:
        problems.append(Problem("dropout", str(config["dropout"]), "a share in [0, 1)"))
    for name, choices in (("condition", CONDITIONS), ("symmetry", SYMMETRIES)):
        if config[name] not in choices:
            problems.append(Problem(name, repr(config[name]), "one of " + ", ".join(choices)))
    if problems:
        raise ConfigError(problems)
