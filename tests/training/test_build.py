"""Building a training state: which shapes torch.compile sees."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from torch import Tensor

from vqdist.config.loading import load_config
from vqdist.data.loading.batch import Batch
from vqdist.data.shards.manifest import Manifest, SplitInfo
from vqdist.distributed.process_group import Ranks
from vqdist.training.build import build_state
from vqdist.training.step import RankRequests, train_step
from vqdist.training.tasks.vqvae import VQVAETask

KEYS = {
    "data.path": "here",
    "data.global_batch_size": 6,
    "data.micro_batch_size": 3,
    "data.crop": 24,
    "model.hidden": 8,
    "model.residual_hidden": 4,
    "model.num_codes": 8,
    "model.code_dim": 4,
    "optim.decay_steps": 10,
    "train.compile": "true",
}


@dataclass(frozen=True)
class Doubling(Ranks):
    """Rank 0 of two ranks that hold the same: a sum doubles."""

    def all_reduce(self, tensor: Tensor) -> Tensor:
        return tensor.mul_(2)


@pytest.mark.parametrize(("on_error", "fixed"), [("raise", True), ("skip", False)])
def test_compiled_sizes_are_fixed_unless_batches_vary(
    on_error: str, fixed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes: list[tuple[Any, ...]] = []

    def keep_shapes(module: torch.fx.GraphModule, inputs: list[Any]) -> Any:
        shapes.extend(tuple(tensor.shape) for tensor in inputs if isinstance(tensor, Tensor) and tensor.ndim == 4)
        return module

    compile_module = torch.nn.Module.compile
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda module, **options: compile_module(module, backend=keep_shapes, **options)
    )
    config, problems = load_config(
        None, [(key, str(value)) for key, value in (KEYS | {"data.on_error": on_error}).items()]
    )
    assert problems == []
    assert config is not None
    ranks = Doubling(0, 2, 0, torch.device("cpu"))
    manifest = Manifest("images", (32, 32), 1, {"train": SplitInfo((), 0, 1, (0.1,), (0.04,))})
    AcceleratorState._reset_state()
    state = build_state(config, VQVAETask(config, manifest, Path(), ranks.device), ranks)
    state.task.model.train()
    for size in (3, 2):
        numbers = torch.arange(size)
        values = torch.zeros(size, 1, 24, 24, dtype=torch.uint8)
        batch = Batch(1, True, values, numbers, numbers, numbers, torch.ones(size), ["k"] * size)
        train_step(state, [batch], RankRequests())
    images = [shape for shape in shapes if shape[1:] == (1, 24, 24)]
    assert images, "the model was compiled"
    assert all(isinstance(size, int) for shape in images for size in shape) == fixed
    if fixed:
        assert {shape[0] for shape in images} == {3, 2}, "the blank batch has the size of a micro-batch"
