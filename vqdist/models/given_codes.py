"""Code maps of which a pass of the sampler redraws some: for completion and restoration.

Shapes: B maps, h w grid, K codes.
"""

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from vqdist.foundation.errors import Problem, UserError
from vqdist.models.argument_checks import find_code_problems


@dataclass(frozen=True)
class GivenCodes:
    """Code maps of which a pass redraws the codes that cost too many bits, given the codes that it has chosen before.

    Attributes:
        codes: (B, h, w) int64.
        max_bits: (B, h, w); a code that costs more bits is redrawn. inf keeps a code, -inf redraws it in any case.
        result_bits: (h, w, B), to which the pass writes the bits of the codes that it keeps or draws; None: it does
            not compute bits that no decision needs, and skips the parts of the maps that stay as they are.
        first_row: the first row of `result_bits` that is written.
    """

    codes: Tensor
    max_bits: Tensor
    result_bits: Tensor | None = None
    first_row: int = 0

    @classmethod
    def from_mask(cls, codes: Tensor, keep: Tensor, *, num_codes: int) -> Self:
        """Keep the codes where `keep`, (B, h, w) bool, is True and redraw the others.

        Raises:
            UserError: codes or a mask of the wrong shape or dtype or out of range; both.
        """
        problems = find_code_problems(codes, num_codes)
        if keep.dtype != torch.bool or keep.shape != codes.shape:
            expected = f"torch.bool of shape {tuple(codes.shape)}, that of the codes"
            problems.append(Problem("keep", f"{keep.dtype} of shape {tuple(keep.shape)}", expected))
        if problems:
            raise UserError(problems)
        return cls(codes, torch.where(keep, math.inf, -math.inf))

    @classmethod
    def from_limits(
        cls, codes: Tensor, max_bits: float | Tensor, *, num_codes: int, weight: Tensor, with_bits: bool = False
    ) -> Self:
        """Redraw the codes that cost more than `max_bits`, which broadcasts to (B, h, w).

        Args:
            weight: of the model; limits and bits have its dtype.
            with_bits: the pass also writes `result_bits`.
        Raises:
            UserError: codes or limits of the wrong shape or dtype or out of range; both.
        """
        problems = find_code_problems(codes, num_codes)
        limits = torch.as_tensor(max_bits, dtype=weight.dtype)
        try:
            limits = limits.expand(codes.shape)
        except RuntimeError:
            expected = f"a number, or a shape that broadcasts to {tuple(codes.shape)}"
            problems.append(Problem("max_bits", f"shape {tuple(limits.shape)}", expected))
        if problems:
            raise UserError(problems)
        B, h, w = codes.shape
        bits = weight.new_zeros(h, w, B, requires_grad=False) if with_bits else None
        return cls(codes, limits, bits)

    def list_rows(self, device: torch.device) -> "list[GivenRow]":
        """Return the rows up to the last one with a code that may be redrawn, or all if bits are wanted.

        Waits for the device once.
        """
        limits = self.max_bits.to(device).permute(1, 2, 0).contiguous()  # (h, w, B)
        may_change = limits != math.inf
        columns = torch.arange(1, limits.shape[1] + 1, device=device)
        ends = (may_change.any(dim=2) * columns).amax(dim=1).tolist()
        needs_bits = (may_change & (limits != -math.inf)).any(dim=2).tolist()
        if self.result_bits is not None:
            h, w, _ = limits.shape
            ends = [w if y >= self.first_row else 0 for y in range(h)]
            return [GivenRow(limits[y], ends[y], needs_bits[y], self.result_bits[y]) for y in range(h)]
        height = max((y + 1 for y, end in enumerate(ends) if end), default=0)
        return [GivenRow(limits[y], ends[y], needs_bits[y]) for y in range(height)]


@dataclass(frozen=True)
class GivenRow:
    """A row of GivenCodes.

    Attributes:
        max_bits: (w, B).
        end: the codes from this column on are kept in all maps.
        needs_bits: for each column, whether a code is kept or redrawn depends on its bits.
        result_bits: (w, B); see GivenCodes.
    """

    max_bits: Tensor
    end: int
    needs_bits: list[bool]
    result_bits: Tensor | None = None

    def find_redrawn(self, x: int, logits: Tensor, given: Tensor) -> Tensor:
        """Return for each map, (B,), whether the code of column x is redrawn.

        Args:
            logits: (B, K).
            given: (B,) codes of column x.
        """
        if not self.needs_bits[x]:
            return self.max_bits[x] < 0
        bits = (logits.logsumexp(dim=1) - logits.gather(1, given[:, None])[:, 0]) / math.log(2)
        return bits > self.max_bits[x]
