"""The codebook of a VQ-VAE: nearest code, straight-through gradient, learning by EMA or gradient, dead-code restarts.

Shapes: B batch, h w latent grid, D code size, K codes, N latents (B * h * w of them in a batch).
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqdist.foundation.errors import ConfigError, Problem
from vqdist.foundation.seeds import derive_seed
from vqdist.models.nearest_code import Assignment, assign_codes, nearest_code

# A count below this would underflow after some thousand idle steps; the code itself does not depend on it.
MIN_COUNT = 1e-6


class StraightThrough(torch.autograd.Function):
    """Pass the gradient of the quantized latents to the latents; van den Oord 2017, section 3.2 and eq. 3.

    Returns the quantized latents and the squared error twice: the first moves the latents only (commitment),
    the second moves the codebook only.
    """

    @staticmethod
    def forward(
        ctx: Any, latents: Tensor, codebook: Tensor, quantized: Tensor, codes: Tensor, errors: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        # A copy, since a standalone quantizer may restart codes before the backward pass.
        used_codebook = codebook.clone() if ctx.needs_input_grad[1] else None
        ctx.save_for_backward(latents, quantized, codes, used_codebook)
        return quantized.view_as(quantized), errors.clone(), errors.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        grad_quantized, grad_commitment, grad_codebook_error = grads
        latents, quantized, codes, codebook = ctx.saved_tensors
        B, D, h, w = latents.shape
        grad_latents = grad_codebook = None
        if ctx.needs_input_grad[0]:
            scale = (grad_commitment * (2 / (D * h * w))).view(B, 1, 1, 1).to(latents.dtype)
            grad_latents = torch.addcmul(grad_quantized, latents - quantized, scale)
        if ctx.needs_input_grad[1]:
            rows = latents.permute(0, 2, 3, 1).reshape(B, h * w, D)
            codes = codes.reshape(B, h * w)
            scale = (grad_codebook_error * (2 / (D * h * w))).view(B, 1, 1)
            towards = (codebook[codes] - rows).mul_(scale).view(-1, D)
            grad_codebook = torch.zeros_like(codebook).index_add_(0, codes.view(-1), towards)
        return grad_latents, grad_codebook, None, None, None


class RestartPlan(NamedTuple):
    """Where in the global batch the candidates of one restart come from; the same on every rank."""

    positions: Tensor  # (K,) int64 position in the global batch
    places: Tensor  # (K,) int64, taken modulo h * w
    gumbel: Tensor  # (K,) noise of the draw among the candidates


class VectorQuantizer(nn.Module):
    """A codebook of K vectors of size D, learned by EMA (2017, appendix A.1) or by gradient (eq. 3).

    Standalone it does all of its own upkeep in training mode: first codes from the first batch, the EMA after
    each forward, restarts of dead codes. With `deferred` a forward only adds to `pending`, so that a training
    loop can sum these over micro-batches and ranks, and then `commit` or `discard` them.

    Args:
        num_codes: K.
        code_dim: D.
        codebook: "ema" or "grad".
        commitment_weight: beta of eq. 3.
        ema_decay: gamma of appendix A.1; also of the usage counts of a codebook learned by gradient.
        restart: whether codes that are hardly used are replaced by latents.
        restart_every: steps between two restarts.
        restart_threshold: a code is dead when, since the last look, it was taken less than this share of the mean.
        deferred: leave first codes, EMA and restarts to the training loop.

    Raises:
        ConfigError: arguments out of range, all of them together.
    """

    codebook: Tensor  # (K, D)
    counts: Tensor  # (K,) N_i of appendix A.1; starts at 1, so that idle codes stay where they are
    initialized: Tensor  # () bool
    recent_counts: Tensor  # (K,) how often each code was taken since the last look for dead ones
    restarted: Tensor  # () int64 codes restarted so far; whoever reads it may set it to 0
    pending_counts: Tensor
    pending_sums: Tensor
    pending_candidates: Tensor

    def __init__(
        self,
        num_codes: int,
        code_dim: int,
        codebook: Literal["ema", "grad"] = "ema",
        *,
        commitment_weight: float = 0.25,
        ema_decay: float = 0.99,
        restart: bool = True,
        restart_every: int = 20,
        restart_threshold: float = 0.02,
        deferred: bool = False,
    ) -> None:
        super().__init__()
        arguments = {
            "num_codes": num_codes,
            "code_dim": code_dim,
            "codebook": codebook,
            "commitment_weight": commitment_weight,
            "ema_decay": ema_decay,
            "restart_every": restart_every,
            "restart_threshold": restart_threshold,
        }
        if problems := codebook_problems(arguments):
            raise ConfigError(problems)
        self.num_codes, self.code_dim = num_codes, code_dim
        self.commitment_weight, self.ema_decay = commitment_weight, ema_decay
        self.restart, self.restart_every, self.restart_threshold = restart, restart_every, restart_threshold
        self.learns_by_ema = codebook == "ema"
        self.deferred = deferred
        first = torch.empty(num_codes, code_dim).uniform_(-1 / num_codes, 1 / num_codes)
        if self.learns_by_ema:
            self.register_buffer("codebook", first)
        else:
            self.codebook = nn.Parameter(first)
        self.register_buffer("counts", torch.ones(num_codes))
        self.register_buffer("initialized", torch.tensor(False))
        self.register_buffer("recent_counts", torch.zeros(num_codes))
        self.register_buffer("restarted", torch.tensor(0), persistent=False)
        self.register_buffer("pending_counts", torch.zeros(num_codes), persistent=False)
        self.register_buffer("pending_sums", torch.zeros(num_codes, code_dim), persistent=False)
        self.register_buffer("pending_candidates", torch.zeros(num_codes, code_dim), persistent=False)
        self._plan: RestartPlan | None = None
        self._own_steps = 0

    def forward(
        self,
        latents: Tensor,
        positions: Tensor | None = None,
        *,
        weights: Tensor | None = None,
        per_sample: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Quantize; in training also collect (and, not deferred, apply) what the codebook learns from.

        Args:
            latents: (B, D, h, w) float.
            positions: (B,) int64 position of each sample in the global batch; None: 0, 1, 2, ... for those whose
                weight is above 0.
            weights: (B,) float >= 0, the weight of each sample in what the codebook learns; None: 1. A sample of
                weight 0 does not contribute. Losses are not weighted.
            per_sample: return the loss of each sample.
        Returns:
            quantized (B, D, h, w), straight-through; codes (B, h, w) int64; loss, () or (B,).
        """
        upkeep = self.training and not self.deferred
        if upkeep:
            self._begin_own_step(latents if weights is None else latents[weights > 0])
        with torch.no_grad(), torch.autocast(latents.device.type, enabled=False):
            found = assign_codes(latents, self.codebook, weights)
            if self.training:
                self._collect(latents, found, positions, weights)
        quantized, commitment, codebook_error = StraightThrough.apply(
            latents, self.codebook, found.quantized, found.codes, found.errors
        )
        loss = self.commitment_weight * commitment
        if not self.learns_by_ema:
            loss = loss + codebook_error
        if upkeep:
            self.commit()
        return quantized, found.codes, loss if per_sample else loss.mean()

    def encode(self, latents: Tensor) -> Tensor:
        """Return the codes of latents (B, D, h, w): (B, h, w) int64."""
        B, D, h, w = latents.shape
        return nearest_code(latents.permute(0, 2, 3, 1).reshape(-1, D), self.codebook).view(B, h, w)

    def embed(self, codes: Tensor) -> Tensor:
        """Return the vectors of a code map: (B, h, w) int64 -> (B, D, h, w)."""
        return F.embedding(codes, self.codebook).permute(0, 3, 1, 2)

    @property
    def pending(self) -> list[Tensor]:
        """What the ranks must sum, in place, between the last micro-batch of a step and `commit`."""
        restarting = [self.pending_candidates] if self._plan is not None else []
        return [self.pending_counts, self.pending_sums, *restarting]

    @torch.no_grad()
    def initialize(self, latents: Tensor, seed: int) -> None:
        """Take K distinct latents as the first codes; repeats with jitter where there are fewer.

        The same latents and seed give the same codes on every rank.

        Args:
            latents: (N, D) float.
        """
        distinct = torch.unique(latents.detach().float().cpu(), dim=0)
        generator = torch.Generator().manual_seed(derive_seed(seed, "first codes"))
        order = torch.randperm(len(distinct), generator=generator)
        codes = distinct[order[torch.arange(self.num_codes) % len(distinct)]]
        if len(distinct) < self.num_codes:
            scale = distinct.std(0, correction=0).mean().clamp(min=1e-3) / 10
            jitter = torch.randn(codes.shape, generator=generator) * scale
            codes[len(distinct) :] += jitter[len(distinct) :]
        self.codebook.copy_(codes)
        self.counts.fill_(1)
        self.recent_counts.zero_()
        self.initialized.fill_(True)

    def plan_restarts(self, seed: int, step: int, global_batch_size: int) -> None:
        """Before a step: say where in the global batch the candidates of its restarts lie, if it has any."""
        self._plan = None
        if not (self.restart and step % self.restart_every == 0):
            return
        generator = torch.Generator().manual_seed(derive_seed(seed, "restart", step))
        positions = torch.randint(global_batch_size, (self.num_codes,), generator=generator)
        places = torch.randint(2**31, (self.num_codes,), generator=generator)
        gumbel = -torch.empty(self.num_codes).exponential_(generator=generator).log()
        self._plan = RestartPlan(*(part.to(self.codebook.device) for part in (positions, places, gumbel)))

    @torch.no_grad()
    def commit(self) -> None:
        """Apply the pending statistics of a step: the EMA, and the restarts if the step was planned to have them."""
        if self.learns_by_ema:
            # m_i / N_i of appendix A.1, written so that an idle code keeps its bits.
            self.counts.lerp_(self.pending_counts, 1 - self.ema_decay).clamp_(min=MIN_COUNT)
            towards = self.pending_sums - self.pending_counts[:, None] * self.codebook
            self.codebook.addcmul_(towards, ((1 - self.ema_decay) / self.counts)[:, None])
        self.recent_counts += self.pending_counts
        if self._plan is not None:
            self._restart_dead_codes(self._plan.gumbel)
        self.discard()

    def discard(self) -> None:
        """Drop the pending statistics: the step was not finite on some rank."""
        for tensor in self.pending:
            tensor.zero_()
        self._plan = None

    def _collect(self, latents: Tensor, found: Assignment, positions: Tensor | None, weights: Tensor | None) -> None:
        self.pending_counts += found.counts
        self.pending_sums += found.sums
        if self._plan is not None:
            counted = (
                torch.ones(len(latents), dtype=torch.bool, device=latents.device) if weights is None else weights > 0
            )
            if positions is None:
                positions = counted.cumsum(0) - 1
            here = (positions == self._plan.positions[:, None]) & counted  # (K, B)
            place = self._plan.places % (latents.shape[2] * latents.shape[3])
            candidates = latents.flatten(2)[here.int().argmax(1), :, place]  # (K, D)
            self.pending_candidates += torch.where(here.any(1, keepdim=True), candidates, 0.0)

    def _restart_dead_codes(self, gumbel: Tensor) -> None:
        """Replace dead codes by candidates drawn without repeats, in proportion to their squared error.

        Most latents of a brain slice are background, which the codebook already holds; their error is near 0.
        """
        nearest = self.codebook[nearest_code(self.pending_candidates, self.codebook)]
        errors = (self.pending_candidates - nearest).square().sum(1)
        order = (errors.log() + gumbel).argsort(descending=True)
        # Not by the moving average: it forgets a code's first uses so slowly that a collapse would go on for long.
        dead = self.recent_counts <= self.restart_threshold * self.recent_counts.mean()
        replacement = self.pending_candidates[order[(dead.cumsum(0) - 1).clamp(min=0)]]
        self.codebook.copy_(torch.where(dead[:, None], replacement, self.codebook))
        self.counts.masked_fill_(dead, 1)
        self.restarted += dead.sum()
        self.recent_counts.zero_()

    @torch.compiler.disable  # it counts steps, and a compiled forward would be compiled anew for each count
    def _begin_own_step(self, latents: Tensor) -> None:
        if not len(latents):
            return
        if self._own_steps == 0 and not self.initialized:
            self.initialize(latents.permute(0, 2, 3, 1).reshape(-1, self.code_dim), seed=0)
        self._own_steps += 1
        self.plan_restarts(0, self._own_steps, len(latents))


def codebook_problems(arguments: Mapping[str, Any], prefix: str = "") -> list[Problem]:
    """Return which arguments of a VectorQuantizer are out of range; the prefix goes before their names."""
    allowed = {
        "num_codes": (arguments["num_codes"] >= 1, "at least 1"),
        "code_dim": (arguments["code_dim"] >= 1, "at least 1"),
        "codebook": (arguments["codebook"] in ("ema", "grad"), "ema or grad"),
        "commitment_weight": (arguments["commitment_weight"] >= 0, "0 or above"),
        "ema_decay": (0 <= arguments["ema_decay"] < 1, "in [0, 1)"),
        "restart_every": (arguments["restart_every"] >= 1, "at least 1"),
        "restart_threshold": (arguments["restart_threshold"] >= 0, "0 or above"),
    }
    return [
        Problem(f"{prefix}{name}", str(arguments[name]), expected)
        for name, (is_allowed, expected) in allowed.items()
        if not is_allowed
    ]
