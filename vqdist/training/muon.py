"""Muon: each matrix of the momentum is made orthogonal before it becomes an update (Jordan et al. 2024)."""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from vqdist.distributed.process_group import Ranks

MOMENTUM = 0.95
# Root mean square of an update, that of Adam's, so that both work with one learning rate (Liu et al. 2025).
ADAM_RMS = 0.2
# The quintic whose fifth iterate maps singular values of 0.01 to 1 to 0.7 to 1.2 (Jordan et al. 2024).
QUINTIC = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


class Muon(Optimizer):
    """Muon for matrices and convolution kernels, with decoupled weight decay.

    A kernel is treated as a matrix (out_channels, in_channels * kernel size), a transposed kernel as a matrix
    (in_channels, out_channels * kernel size). torch.optim.Muon accepts no kernels and computes in bf16 everywhere,
    which is slow on most CPUs and gives other weights than fp32.

    Each rank computes a share of the updates and receives the others', so that the weights are bitwise identical on all
    ranks, even if their processors round differently.

    Args:
        params: matrices and kernels.
        lr: learning rate.
        weight_decay: decoupled weight decay.
        ranks: the ranks that share the work.
    """

    def __init__(self, params: Sequence[nn.Parameter], *, lr: float, weight_decay: float, ranks: Ranks) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
        self._ranks = ranks

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update the weights. Must be called by all ranks, with the same gradients."""
        for group in self.param_groups:
            self._update(group)

    def _update(self, group: dict[str, Any]) -> None:
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

    def _orthogonalize_share(self, weights: list[nn.Parameter]) -> Tensor:
        """Return the updates (n, rows, columns) of weights of one shape; zeros for those of another rank's share."""
        momenta = torch.stack([self._update_momentum(weight).flatten(1) for weight in weights])
        share = slice(self._ranks.rank, None, self._ranks.world_size)
        updates = torch.zeros_like(momenta)
        updates[share] = orthogonalize(momenta[share])
        return updates

    def _update_momentum(self, weight: nn.Parameter) -> Tensor:
        """Add the gradient to the momentum and return Nesterov's mixture of the two."""
        assert weight.grad is not None
        state = self.state[weight]
        if not state:
            state["step"], state["momentum"] = torch.zeros(()), torch.zeros_like(weight)
        state["step"] += 1
        state["momentum"].lerp_(weight.grad, 1 - MOMENTUM)
        return weight.grad.lerp(state["momentum"], MOMENTUM)


class MuonWithAdamW(Optimizer):
    """Muon for some weights and AdamW for all others, as one optimizer: one list of groups and one state.

    Args:
        muon, adamw: the two optimizers, over different weights.
    """

    def __init__(self, muon: Muon, adamw: AdamW) -> None:
        self.muon, self.adamw = muon, adamw
        super().__init__([*muon.param_groups, *adamw.param_groups], {})
        self._share()

    def _share(self) -> None:
        """Let both optimizers use the groups and the state of this one."""
        count = len(self.muon.param_groups)
        self.muon.param_groups, self.adamw.param_groups = self.param_groups[:count], self.param_groups[count:]
        self.muon.state = self.adamw.state = self.state

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update all weights. Must be called by all ranks, with the same gradients."""
        self.muon.step()
        self.adamw.step()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state; torch replaces groups and state by new objects."""
        super().load_state_dict(state_dict)
        self._share()


def orthogonalize(matrices: Tensor) -> Tensor:
    """Bring all singular values near 1 and keep the singular vectors, by matrix products only.

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
