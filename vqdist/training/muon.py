"""Muon: each matrix of the momentum is made orthogonal before it becomes an update (Jordan et al. 2024)."""

import math
import operator
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

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
        compiled: compile `orthogonalize`, whose operators are many and small.
    """

    def __init__(
        self, params: Sequence[nn.Parameter], *, lr: float, weight_decay: float, ranks: Ranks, compiled: bool = False
    ) -> None:
        # capturable, as in torch's optimizers: step counts too are on the device of the weights.
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "capturable": True})
        self._ranks = ranks
        # The shapes vary only in size: few graphs with symbolic sizes serve all of them.
        self._orthogonalize = torch.compile(orthogonalize, dynamic=True) if compiled else orthogonalize
        self._stacks: dict[torch.Size, _Stack] = {}

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update the weights. Must be called by all ranks, with the same gradients."""
        self._step(skip=None)

    def step_unless(self, skip: Tensor) -> None:
        """Queue a step that changes nothing if the flag () float32 is 1; see `vqdist.training.optim.step_unless`."""
        self._step(skip=skip)

    @torch.no_grad()
    def _step(self, *, skip: Tensor | None) -> None:
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is not None:
                    by_shape[weight.shape].append(weight)
            if by_shape:
                self._update(group, list(by_shape.values()), skip=skip)

    def _update(self, group: dict[str, Any], by_shape: list[list[Tensor]], *, skip: Tensor | None) -> None:
        skipped = None if skip is None else skip > 0
        updates = self._sum_over_ranks([self._compute_share(weights, skipped=skipped) for weights in by_shape])
        every = [weight for weights in by_shape for weight in weights]
        lr, decay = group["lr"], group["lr"] * group["weight_decay"]
        if skip is None:
            torch._foreach_add_([self.state[weight]["step"] for weight in every], 1)
            torch._foreach_mul_(every, 1 - decay)
        else:
            kept = 1 - skip
            # A list, because torch would convert a single tensor to a number on the host.
            torch._foreach_add_([self.state[weight]["step"] for weight in every], [kept] * len(every))
            torch._foreach_mul_(every, 1 - decay * kept)
            torch._foreach_mul_(updates, kept)
        for weights, update in zip(by_shape, updates, strict=True):
            scale = lr * ADAM_RMS * math.sqrt(max(update.shape[1:]))
            torch._foreach_add_(weights, _unstack(update, weights[0]), alpha=-scale)

    def _sum_over_ranks(self, stacks: list[Tensor]) -> list[Tensor]:
        if self._ranks.world_size == 1:
            return stacks
        flat = self._ranks.all_reduce(torch.cat([stack.flatten() for stack in stacks]))
        parts = flat.split([stack.numel() for stack in stacks])
        return [part.view_as(stack) for part, stack in zip(parts, stacks, strict=True)]

    def _compute_share(self, weights: list[Tensor], *, skipped: Tensor | None) -> Tensor:
        """Return the updates (n, rows, columns) of weights of one shape; zeros for those of another rank's share."""
        mixed = self._update_momenta(weights, skipped=skipped)
        if self._ranks.world_size == 1:
            return self._orthogonalize(mixed)
        share = slice(self._ranks.rank, None, self._ranks.world_size)
        updates = torch.zeros_like(mixed)
        updates[share] = self._orthogonalize(mixed[share])
        return updates

    def _update_momenta(self, weights: list[Tensor], *, skipped: Tensor | None) -> Tensor:
        """Add the gradients to the momenta and return Nesterov's mixture of the two, (n, rows, columns)."""
        momenta = self._stack_momenta(weights)
        grads = torch.empty_like(momenta)  # given as `out`, because a stack of channels_last kernels is no matrix
        found = [weight.grad for weight in weights if weight.grad is not None]
        torch.stack(found, out=grads.view(len(found), *weights[0].shape))
        if skipped is not None:
            grads = torch.where(skipped, momenta, grads)  # the update is scaled by 0 later, and 0 times NaN is NaN
        momenta.lerp_(grads, 1 - MOMENTUM)
        return grads.lerp_(momenta, MOMENTUM)

    def _stack_momenta(self, weights: list[Tensor]) -> Tensor:
        """Return the momenta of weights of one shape as one tensor (n, rows, columns), which shares their memory."""
        states = [self.state[weight] for weight in weights]
        stack = self._stacks.get(weights[0].shape)
        if stack is None or not stack.holds([state.get("momentum") for state in states]):
            for state, weight in zip(states, weights, strict=True):
                if not state:
                    state["step"] = torch.zeros((), device=weight.device)
                    state["momentum"] = torch.zeros_like(weight)
            stack = _Stack.build([state["momentum"] for state in states])
            self._stacks[weights[0].shape] = stack
            for state, part in zip(states, stack.parts, strict=True):
                state["momentum"] = part
        return stack.matrices


@dataclass(frozen=True)
class _Stack:
    """Tensors of one shape in one tensor.

    Attributes:
        matrices: (n, rows, columns).
        parts: views of the matrices, in the shape of the tensors.
    """

    matrices: Tensor
    parts: list[Tensor]

    @classmethod
    def build(cls, tensors: list[Tensor]) -> Self:
        matrices = torch.stack(tensors).flatten(2)
        return cls(matrices, [part.view(tensor.shape) for part, tensor in zip(matrices, tensors, strict=True)])

    def holds(self, tensors: list[Tensor | None]) -> bool:
        """Return whether these are its parts; a restored state and another choice of weights have others."""
        return len(tensors) == len(self.parts) and all(map(operator.is_, tensors, self.parts))


def _unstack(matrices: Tensor, like: Tensor) -> list[Tensor]:
    """Return each of n matrices in the shape and the memory layout of a weight, as operators on lists require."""
    stacked = matrices.view(len(matrices), *like.shape)
    strides = (like.numel(), *like.stride())
    if stacked.stride() != strides:
        stacked = stacked.new_empty_strided(stacked.shape, strides).copy_(stacked)
    return list(stacked.unbind())


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
