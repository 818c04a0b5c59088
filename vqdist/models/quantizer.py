"""The vector quantizer: nearest codes, straight-through gradient, learning by EMA or gradient, restarts of dead codes.

Shapes: B batch, h w latent grid, D code size, K codes, N latents (B * h * w of them in a batch).
"""

from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqdist.config.model_config import QuantizerConfig
from vqdist.config.section import build_section, takes_keys
from vqdist.foundation.devices import copy_to_device
from vqdist.foundation.seeds import derive_seed
from vqdist.models.argument_checks import require_codes, require_latents
from vqdist.models.nearest_code import Assignment, assign_codes, nearest_code

# Without this limit the count of an idle code would underflow after some thousand steps.
MIN_COUNT = 1e-6


class StraightThrough(torch.autograd.Function):
    """Copy the gradient of the quantized latents to the latents; van den Oord et al. 2017, section 3.2 and eq. 3.

    Returns the quantized latents and the squared error twice: the gradient of the first error reaches the latents only
    (commitment), that of the second the codebook only.
    """

    @staticmethod
    def forward(
        ctx: Any, latents: Tensor, codebook: Tensor, quantized: Tensor, codes: Tensor, errors: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        # Cloned: a standalone quantizer may restart codes before the backward pass.
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
    """Where the candidates of a restart are in the global batch; equal on every rank."""

    positions: Tensor  # (K,) int64 position of the sample in the global batch
    places: Tensor  # (K,) int64 position in the latent grid, modulo h * w
    gumbel: Tensor  # (K,) noise for sampling among the candidates


@takes_keys(QuantizerConfig)
class VectorQuantizer(nn.Module):
    """A codebook of K vectors of size D, learned by EMA (2017, appendix A.1) or by gradient (eq. 3).

    In training mode, a standalone quantizer takes its first codes from the first batch, applies the EMA after each
    forward and restarts dead codes. With `deferred`, a forward only adds to the `pending` statistics: a training loop
    calls `plan_restarts`, sums `pending` over micro-batches and ranks, and then calls `commit` or `discard`.

    Args:
        num_codes: K.
        code_dim: D.
        codebook: "ema" or "grad"; with "grad", ema_decay is not used.
        deferred: leave first codes, EMA and restarts to the training loop.
    Raises:
        ConfigError: unknown keys or values out of range; all of them.
    """

    codebook: Tensor  # (K, D)
    counts: Tensor  # (K,) N_i of appendix A.1; starts at 1, so that idle codes do not move
    initialized: Tensor  # () bool
    recent_counts: Tensor  # (K,) uses of each code since the last restart check
    restarted: Tensor  # () int64 number of restarted codes; the reader may reset it to 0
    pending_counts: Tensor
    pending_sums: Tensor
    pending_candidates: Tensor

    def __init__(
        self,
        num_codes: int,
        code_dim: int,
        codebook: Literal["ema", "grad"] = "ema",
        *,
        deferred: bool = False,
        **keys: Any,
    ) -> None:
        super().__init__()
        arguments = {"num_codes": num_codes, "code_dim": code_dim, "codebook": codebook, **keys}
        config = build_section(QuantizerConfig, arguments)
        self.num_codes, self.code_dim = num_codes, code_dim
        self.commitment_weight, self.ema_decay = config.commitment_weight, config.ema_decay
        self.restart, self.restart_every = config.restart, config.restart_every
        self.restart_threshold = config.restart_threshold
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
        """Quantize latents; in training mode also update the codebook, or with `deferred` the pending statistics.

        Args:
            latents: (B, D, h, w) float.
            positions: (B,) int64 position of each sample in the global batch; None: 0, 1, 2, ... for those whose
                weight is above 0.
            weights: (B,) float >= 0, the weight of each sample in what the codebook learns; None: 1. A sample of
                weight 0 does not contribute. Losses are not weighted.
            per_sample: return the loss of each sample.
        Returns:
            quantized (B, D, h, w), straight-through; codes (B, h, w) int64; loss, () or (B,).
        Raises:
            UserError: latents of another shape or dtype.
        """
        require_latents(latents, code_dim=self.code_dim)
        standalone = self.training and not self.deferred
        if standalone:
            begin = self._begin_own_step
            # The step counter would trigger a recompilation at each forward. A decorator would import torch._dynamo,
            # which takes seconds, at the start of every command.
            if torch.compiler.is_compiling():
                begin = torch.compiler.disable(begin)
            begin(latents if weights is None else latents[weights > 0])
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
        if standalone:
            self.commit()
        return quantized, found.codes, loss if per_sample else loss.mean()

    def encode(self, latents: Tensor) -> Tensor:
        """Return the codes of latents (B, D, h, w): (B, h, w) int64."""
        require_latents(latents, code_dim=self.code_dim)
        B, D, h, w = latents.shape
        return nearest_code(latents.permute(0, 2, 3, 1).reshape(-1, D), self.codebook).view(B, h, w)

    def embed(self, codes: Tensor) -> Tensor:
        """Return the codebook vectors (B, D, h, w) of code maps (B, h, w) int64."""
        require_codes(codes, num_codes=self.num_codes)
        return F.embedding(codes, self.codebook).permute(0, 3, 1, 2)

    @property
    def pending(self) -> list[Tensor]:
        """The tensors that must be summed over ranks, in place, between the last micro-batch of a step and `commit`."""
        restarting = [self.pending_candidates] if self._plan is not None else []
        return [self.pending_counts, self.pending_sums, *restarting]

    @torch.no_grad()
    def initialize(self, latents: Tensor, seed: int) -> None:
        """Set the codebook to K distinct latents; if there are fewer, repeat them with jitter.

        The codes depend only on the set of latents and the seed.

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
        """Plan the restarts of a step, if it is one with restarts; call it before the first forward of the step.

        Args:
            step: number of the step, from 1.
            global_batch_size: samples of the step over all micro-batches and ranks.
        """
        self._plan = None
        if not (self.restart and step % self.restart_every == 0):
            return
        generator = torch.Generator().manual_seed(derive_seed(seed, "restart", step))
        positions = torch.randint(global_batch_size, (self.num_codes,), generator=generator)
        places = torch.randint(2**31, (self.num_codes,), generator=generator)
        gumbel = -torch.empty(self.num_codes).exponential_(generator=generator).log()
        self._plan = RestartPlan(*(copy_to_device(part, self.codebook.device) for part in (positions, places, gumbel)))

    @torch.no_grad()
    def commit(self) -> None:
        """Apply the pending statistics of a step: the EMA, and the planned restarts."""
        if self.learns_by_ema:
            # m_i / N_i of appendix A.1, in a form that leaves the bits of an idle code unchanged.
            self.counts.lerp_(self.pending_counts, 1 - self.ema_decay).clamp_(min=MIN_COUNT)
            towards = self.pending_sums - self.pending_counts[:, None] * self.codebook
            self.codebook.addcmul_(towards, ((1 - self.ema_decay) / self.counts)[:, None])
        self.recent_counts += self.pending_counts
        if self._plan is not None:
            self._restart_dead_codes(self._plan.gumbel)
        self.discard()

    def discard(self) -> None:
        """Drop the pending statistics and the planned restarts, for a step that is skipped."""
        for tensor in self.pending:
            tensor.zero_()
        self._plan = None

    def _collect(self, latents: Tensor, found: Assignment, positions: Tensor | None, weights: Tensor | None) -> None:
        self.pending_counts += found.counts
        self.pending_sums += found.sums
        if self._plan is not None:
            counted = torch.ones_like(latents[:, 0, 0, 0], dtype=torch.bool) if weights is None else weights > 0
            positions = counted.long().cumsum(0) - 1 if positions is None else positions
            here = (positions == self._plan.positions[:, None]) & counted  # (K, B)
            place = self._plan.places % (latents.shape[2] * latents.shape[3])
            candidates = latents.flatten(2)[here.int().argmax(1), :, place]  # (K, D)
            self.pending_candidates += torch.where(here.any(1, keepdim=True), candidates, 0.0)

    def _restart_dead_codes(self, gumbel: Tensor) -> None:
        """Replace dead codes by candidates sampled without replacement, in proportion to their squared error.

        Most latents of a brain slice are background, which the codebook already represents: their error is near 0.
        """
        nearest = self.codebook[nearest_code(self.pending_candidates, self.codebook)]
        errors = (self.pending_candidates - nearest).square().sum(1)
        order = (errors.log() + gumbel).argsort(descending=True)
        # Not by the moving average: it decays so slowly that a collapse of the codebook would last long.
        dead = self.recent_counts <= self.restart_threshold * self.recent_counts.mean()
        replacement = self.pending_candidates[order[(dead.cumsum(0) - 1).clamp(min=0)]]
        self.codebook.copy_(torch.where(dead[:, None], replacement, self.codebook))
        self.counts.masked_fill_(dead, 1)
        self.restarted += dead.sum()
        self.recent_counts.zero_()

    def _begin_own_step(self, latents: Tensor) -> None:
        if not len(latents):
            return
        if self._own_steps == 0 and not self.initialized:
            self.initialize(latents.permute(0, 2, 3, 1).reshape(-1, self.code_dim), seed=0)
        self._own_steps += 1
        self.plan_restarts(0, self._own_steps, len(latents))
