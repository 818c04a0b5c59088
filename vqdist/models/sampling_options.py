"""How a PixelCNN's sampler chooses a code from its logits.

Shapes: B maps, K codes.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vqdist.foundation.errors import Problem, UserError


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
