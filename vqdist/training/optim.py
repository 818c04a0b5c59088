"""The optimizer, the learning rate as a function of the step, and the moving average of the weights."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from vqdist.config.schema import OptimSection
from vqdist.distributed.process_group import Ranks
from vqdist.training.muon import Muon, MuonWithAdamW

FINAL_LR_SHARE = 0.01


def build_optimizer(
    model: nn.Module,
    hidden: list[nn.Parameter],
    settings: OptimSection,
    ranks: Ranks,
    *,
    compiled: bool = False,
) -> AdamW | MuonWithAdamW:
    """Return AdamW, or Muon for the hidden weights and AdamW for the others.

    Biases, other vectors and a codebook are not decayed; the latents determine the length of codebook vectors.

    Args:
        hidden: the weights between the first and the last layer.
        compiled: compile what Muon computes.
    """
    hidden = hidden if settings.name == "muon" else []
    taken = {id(weight) for weight in hidden}
    decayed: list[nn.Parameter] = []
    spared: list[nn.Parameter] = []
    for name, weight in model.named_parameters():
        if id(weight) not in taken:
            (spared if weight.ndim <= 1 or name.endswith("codebook") else decayed).append(weight)
    groups = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": spared, "weight_decay": 0.0},
    ]
    fused = ranks.device.type != "mps"
    adamw = AdamW([group for group in groups if group["params"]], lr=settings.lr, fused=fused)
    if not hidden:
        return adamw
    muon = Muon(hidden, lr=settings.lr, weight_decay=settings.weight_decay, ranks=ranks, compiled=compiled)
    return MuonWithAdamW(muon, adamw)


def step_unless(optimizer: AdamW | MuonWithAdamW, skip: Tensor) -> None:
    """Queue a step that the device skips if the flag is set, so that the host does not wait for the flag.

    Args:
        optimizer: of `build_optimizer`.
        skip: () float32, 0 or 1. A skipped step changes neither weights nor state.
    Must be called by all ranks, with the same flag.
    """
    if isinstance(optimizer, MuonWithAdamW):
        optimizer.muon.step_unless(skip)
        optimizer = optimizer.adamw
    # The attribute by which torch.amp.GradScaler.step lets fused optimizers skip a step.
    optimizer.found_inf = skip  # type: ignore[attr-defined]
    try:
        optimizer.step()
    finally:
        del optimizer.found_inf  # type: ignore[attr-defined]


def compute_lr(step: int, settings: OptimSection) -> float:
    """Return the learning rate of a step, counted from 1.

    Linear warm-up, then constant, or a cosine or linear decay to FINAL_LR_SHARE of the peak at decay_steps.
    """
    assert settings.decay_steps is not None, "resolved at the first attempt"
    if step <= settings.warmup_steps:
        return settings.lr * step / settings.warmup_steps
    if settings.schedule == "constant":
        return settings.lr
    span = max(settings.decay_steps - settings.warmup_steps, 1)
    done = min((step - settings.warmup_steps) / span, 1.0)
    share = 0.5 * (1 + math.cos(math.pi * done)) if settings.schedule == "cosine" else 1 - done
    return settings.lr * (FINAL_LR_SHARE + (1 - FINAL_LR_SHARE) * share)


def optimizer_tensors(optimizer: Optimizer) -> dict[str, torch.Tensor]:
    """Return the state of an optimizer as PARAMETER_NUMBER.NAME -> tensor."""
    state = optimizer.state_dict()["state"]
    return {f"{number}.{name}": value for number, inner in state.items() for name, value in inner.items()}


def load_optimizer_tensors(optimizer: Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    """Restore the state of an optimizer; the hyperparameters stay those of the configuration.

    Raises:
        ValueError, IndexError: the state belongs to other parameters.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, torch.Tensor]] = {}
    for full_name, value in tensors.items():
        number, name = full_name.split(".", 1)
        like = parameters[int(number)]
        if value.ndim:
            if value.shape != like.shape:
                raise ValueError(f"{full_name} of shape {tuple(value.shape)}, not {tuple(like.shape)}")
            # Fused kernels require that a moment has the memory layout of its parameter.
            value = torch.empty_like(like).copy_(value)
        state.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


class WeightEMA:
    """A moving average of the floating-point state of a model, codebook included.

    Args:
        model: the average starts as a copy of its state.
        decay: in (0, 1). Step n uses (1 + n) / (10 + n) if that is smaller, so that the initial weights lose their
            influence quickly.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self._model = model
        self.tensors = {name: value.detach().clone() for name, value in self._live().items()}

    def _live(self) -> dict[str, torch.Tensor]:
        # Not cached: DDP moves the parameters to other memory when it wraps the model.
        return {name: value for name, value in self._model.state_dict().items() if value.is_floating_point()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Add the weights of a step to the average."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.tensors.values()), list(self._live().values()), 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Swap the average into the model while the block runs."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        averages, live = list(self.tensors.values()), list(self._live().values())
        held = [value.clone() for value in live]
        torch._foreach_copy_(live, averages)
        torch._foreach_copy_(averages, held)

    @torch.no_grad()
    def load(self, tensors: dict[str, torch.Tensor]) -> None:
        """Restore a saved average."""
        for name, value in tensors.items():
            self.tensors[name].copy_(value)
