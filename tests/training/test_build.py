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
from vqdist.models.map_conditions import MapConditions
from vqdist.training.build import build_state
from vqdist.training.state import TrainingState
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


def build_compiled(on_error: str, monkeypatch: pytest.MonkeyPatch) -> tuple[TrainingState, list[Any], dict[str, Any]]:
    """Build a state; return it, the shapes of the images in each graph (they grow) and the options of compile."""
    shapes: list[Any] = []
    options: dict[str, Any] = {}

    def keep_shapes(module: torch.fx.GraphModule, inputs: list[Any]) -> Any:
        found = [tuple(tensor.shape) for tensor in inputs if isinstance(tensor, Tensor) and tensor.ndim == 4]
        shapes.extend(shape for shape in found if shape[1:] == (1, 24, 24))
        return module

    compile_module = torch.nn.Module.compile

    def compile_and_keep(module: torch.nn.Module, **keys: Any) -> None:
        options.update(keys)
        compile_module(module, backend=keep_shapes, **keys)

    monkeypatch.setattr(torch.nn.Module, "compile", compile_and_keep)
    flags = KEYS | {"data.on_error": on_error}
    config, problems = load_config(None, [(key, str(value)) for key, value in flags.items()])
    assert problems == []
    assert config is not None
    ranks = Doubling(0, 2, 0, torch.device("cpu"))
    manifest = Manifest("images", (32, 32), 1, {"train": SplitInfo((), 0, 1, (0.1,), (0.04,))})
    AcceleratorState._reset_state()
    return build_state(config, VQVAETask(config, manifest, Path(), ranks.device), ranks), shapes, options


def test_compiled_sizes_are_fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    state, shapes, options = build_compiled("raise", monkeypatch)
    assert options == {"dynamic": False}
    assert set(shapes) == {(3, 1, 24, 24)}, "the blank batch has the shape of a micro-batch"
    state.task.model.train()
    for size in (3, 2):
        numbers = torch.arange(size)
        values = torch.zeros(size, 1, 24, 24, dtype=torch.uint8)
        batch = Batch(1, True, values, MapConditions(numbers, numbers), numbers, torch.ones(size), ["k"] * size)
        train_step(state, [batch], RankRequests())
    assert {shape[0] for shape in shapes} == {3, 2}
    assert all(type(size) is int for shape in shapes for size in shape)


def test_sizes_may_vary_where_damaged_samples_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert build_compiled("skip", monkeypatch)[2] == {"dynamic": None}
