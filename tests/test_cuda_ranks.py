"""Two ranks on a device with the manners of CUDA: what goes over its process group, and what over that of the CPU."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cuda_stand_in
import pytest
import torch
from cuda_stand_in import Count
from device_stand_in import Held
from support import on_ranks, read_metrics, tiny_flags, write_image_set
from test_cuda import list_waits, record_steps
from test_mps import run
from torch import Tensor, nn

pytestmark = pytest.mark.ranks

FLAGS = (*tiny_flags(), "--tracking.mode", "disabled", "--train.log_every", 1, "--model.restart_every", 4)
FLAGS += ("--optim.name", "muon", "--optim.weight_ema", 0.9, "--train.max_steps", 8)


def separate_groups(count: Count) -> None:
    """Have tensors of the device reduced by a group that refuses those of the CPU, and note both kinds.

    The sums themselves are those of gloo.
    """
    dist = torch.distributed

    def on_device(real: Any) -> Any:
        def call(tensor: Tensor, **keys: Any) -> None:
            held = isinstance(tensor, Held)
            count.events.append(f"{'device' if held else 'host'}: {real.__name__}")
            real(tensor.inner if held else tensor, **keys)

        return call

    for name in ("all_reduce", "broadcast"):
        setattr(dist, name, on_device(getattr(dist, name)))
    nn.parallel.DistributedDataParallel = Averaging


class Averaging(nn.Module):
    """DDP in a few lines: weights of rank 0, and each gradient averaged when it is complete."""

    def __init__(self, module: nn.Module, **_: Any) -> None:
        super().__init__()
        self.module, self._averages = module, True
        for parameter in module.parameters():
            torch.distributed.broadcast(parameter.data, src=0)
            parameter.register_post_accumulate_grad_hook(self._average)

    def forward(self, *inputs: Any, **keys: Any) -> Any:
        return self.module(*inputs, **keys)

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        self._averages = False
        yield
        self._averages = True

    def _average(self, parameter: Tensor) -> None:
        assert parameter.grad is not None
        if self._averages:
            torch.distributed.all_reduce(parameter.grad)
            parameter.grad.div_(torch.distributed.get_world_size())


def train_on_device(folder: str) -> list[list[str]]:
    """Train a VQ-VAE on the device; return the events of each step."""
    from vqdist.distributed import process_group
    from vqdist.training import preflight

    out = Path(folder)
    with cuda_stand_in.everywhere() as count:
        # The process group exists. From here on Accelerate and the launch checks must not be told to use the CPU.
        del os.environ["ACCELERATE_USE_CPU"]
        process_group.launch_problems = preflight.launch_problems = lambda *_: []  # type: ignore[assignment]
        separate_groups(count)
        steps = record_steps(count)
        run("train", *FLAGS, "--data.path", out / "images", "--run.dir", out, "--run.name", "device")
    return steps


def train_on_cpu(folder: str) -> None:
    """Train the same VQ-VAE on the CPU."""
    out = Path(folder)
    run("train", *FLAGS, "--data.path", out / "images", "--run.dir", out, "--run.name", "cpu")


def test_two_ranks_exchange_their_requests_without_the_device(tmp_path: Path) -> None:
    write_image_set(tmp_path / "images")
    on_ranks(train_on_cpu, str(tmp_path), ranks=2, timeout_s=250)
    found = on_ranks(train_on_device, str(tmp_path), ranks=2, timeout_s=250)
    for line, like in zip(read_metrics(tmp_path / "device"), read_metrics(tmp_path / "cpu"), strict=True):
        assert line.pop("split") == like.pop("split")
        assert line == pytest.approx(like, rel=1e-3, abs=1e-5)
    for steps in found:
        assert len(steps) == 8
        for events in steps[1:]:
            (wait,) = list_waits(events)
            host = [place for place, event in enumerate(events) if event == "host: all_reduce"]
            device = [place for place, event in enumerate(events) if event == "device: all_reduce"]
            updates = [place for place, event in enumerate(events) if event == "aten::_fused_adamw_"]
            assert len(host) == 1, "the flags"
            assert max(device) < max(updates) < host[0] < wait
    assert json.loads((tmp_path / "device/status.json").read_text())["state"] == "finished"
