"""Muon: momentum whose every matrix is made orthogonal before it is a step (Jordan et al. 2024)."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from vqdist.distributed.process_group import Ranks

MOMENTUM = 0.95
# A step's root mean square beside that of Adam's, so that both get along with one learning rate (Liu et al. 2025).
ADAM_RMS = 0.2
# The quintic whose fifth iterate takes singular values of 0.01 to 1 into 0.7 to 1.2 (Jordan et al. 2024).
QUINTIC = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


class Muon(torch.optim.AdamW):
    """Muon for the weights between a model's first and last layers, AdamW for all others.

    A kernel counts as the matrix of its outputs by everything that it looks at, a transposed one as that of its inputs
    by everything that they reach. torch.optim.Muon takes no kernels, and works in bf16 wherever it is: slowly on most
    CPUs, and with other weights than fp32 gives.

    Each rank works out a share of the matrices and gets the others' from the ranks that did: less work for each,
    and weights that stay the same to the bit on all, whatever their processors make of a product of matrices.

    Args:
        groups: parameter groups for AdamW; `orthogonal` in a group makes it one for Muon.
        lr: of both.
        ranks: who shares the work.
        fused: as for AdamW.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], *, lr: float, ranks: Ranks, fused: bool) -> None:
        super().__init__([{"orthogonal": False, **group} for group in groups], lr=lr, fused=fused)
        self._step_supports_amp_scaling = False  # the scaler is to unscale, and to leave out a step, by itself
        self._ranks = ranks

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all weights. Collective: every rank, with the same gradients."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            if group["orthogonal"]:
                self._step_matrices(group)
        super().step()
        return loss

    def _step_matrices(self, group: dict[str, Any]) -> None:
        """Update a group's weights and take their gradients away: AdamW then passes them over."""
        by_shape: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
        for weight in group["params"]:
            if weight.grad is not None:
                by_shape[weight.shape].append(weight)
        stacks = [self._orthogonalize_share(weights) for weights in by_shape.values()]
        if self._ranks.world_size > 1 and stacks:
            flat = self._ranks.all_reduce(torch.cat([stack.flatten() for stack in stacks]))
            parts = flat.split([stack.numel() for stack in stacks])
            stacks = [part.view_as(stack) for part, stack in zip(parts, stacks, strict=True)]
        for weights, stack in zip(by_shape.values(), stacks, strict=True):
            lr, longer = group["lr"], max(stack.shape[1:])
            for weight, update in zip(weights, stack, strict=True):
                weight.mul_(1 - lr * group["weight_decay"])
                weight.add_(update.view(weight.shape), alpha=-lr * ADAM_RMS * math.sqrt(longer))
                weight.grad = None

    def _orthogonalize_share(self, weights: list[nn.Parameter]) -> Tensor:
        """Return the updates (n, rows, columns) of weights of one shape; zeros for those that are another rank's."""
        momenta = torch.stack([self._gather_momentum(weight).flatten(1) for weight in weights])
        share = slice(self._ranks.rank, None, self._ranks.world_size)
        updates = torch.zeros_like(momenta)
        updates[share] = orthogonalize(momenta[share])
        return updates

    def _gather_momentum(self, weight: nn.Parameter) -> Tensor:
        """Take a gradient into the momentum and return the two as Nesterov mixes them."""
        assert weight.grad is not None
        state = self.state[weight]
        if not state:
            # AdamW, which takes saved state back, looks for a count of steps.
            state["step"], state["momentum"] = torch.zeros(()), torch.zeros_like(weight)
        state["step"] += 1
        state["momentum"].lerp_(weight.grad, 1 - MOMENTUM)
        return weight.grad.lerp(state["momentum"], MOMENTUM)


def orthogonalize(matrices: Tensor) -> Tensor:
    """Bring all singular values near 1 and leave the singular vectors as they are, by products of matrices alone.

    Args:
        matrices: (n, rows, columns).
    Returns:
        (n, rows, columns), of the same type.
    """
    if matrices.shape[1] > matrices.shape[2]:
        return orthogonalize(matrices.mT).mT
    a, b, c = QUINTIC
    result = matrices / matrices.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(ITERATIONS):
        square = result @ result.mT
        result = torch.baddbmm(result, torch.baddbmm(square, square, square, beta=b, alpha=c), result, beta=a)
    return result
