"""Sampling from a PixelCNN."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vqdist.errors import Problem, UserError

if TYPE_CHECKING:
    from vqdist.models.pixelcnn import PixelCNN


@dataclass(frozen=True)
class Draw:
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
            problems.append(
                Problem("noise", f"shape {tuple(self.noise.shape)}", f"shape {(num, h * w, num_codes)}")
            )
        if problems:
            raise UserError(problems)

    def choose(self, logits: Tensor, noise: Tensor) -> Tensor:
        """Return the codes, (B,), drawn from (B, K) logits with (B, K) noise."""
        if self.temperature == 0:
            return logits.argmax(dim=1)
        if self.top_k:
            best, codes = logits.topk(self.top_k, dim=1)
            pick = (best / self.temperature + noise.gather(1, codes)).argmax(dim=1, keepdim=True)
            return codes.gather(1, pick)[:, 0]
        return (logits / self.temperature + noise).argmax(dim=1)


def gumbel_noise(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Return standard Gumbel noise from torch's global generator, on the device and of the type of `like`."""
    return -torch.empty(shape, device=like.device, dtype=like.dtype).exponential_().log()


@torch.no_grad()
def sample_codes(
    model: "PixelCNN",
    num: int,
    grid: tuple[int, int],
    draw: Draw,
    *,
    label: Tensor | None,
    slice: Tensor | None,
) -> Tensor:
    """Return (num, h, w) codes."""
    h, w = grid
    weight = model.embedding.weight
    label, slice = (None if value is None else value.to(weight.device) for value in (label, slice))
    codes = torch.zeros(num, h, w, dtype=torch.int64, device=weight.device)
    training = model.training
    model.eval()
    for position in range(h * w):
        y, x = divmod(position, w)
        logits = model(codes, label=label, slice=slice)[:, :, y, x]
        noise = (
            gumbel_noise(logits.shape, logits) if draw.noise is None else draw.noise[:, position].to(logits)
        )
        codes[:, y, x] = draw.choose(logits, noise)
    model.train(training)
    return codes
