"""Devices that queue their work: copies and the stream of copies. TF32, and subnormal numbers."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from vqdist.foundation import devices
from vqdist.foundation.devices import CopyStream, copy_to_device, queues_work, set_arithmetic

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


def test_only_cuda_queues_work() -> None:
    assert [queues_work(torch.device(name)) for name in ("cpu", "cuda", "mps")] == [False, True, False]


def test_copies_to_a_queuing_device_come_from_page_locked_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    moves: list[Any] = []
    monkeypatch.setattr(Tensor, "pin_memory", lambda tensor: moves.append("pinned") or tensor)
    monkeypatch.setattr(Tensor, "to", lambda tensor, device, **keys: moves.append((device, keys)) or tensor)
    copy_to_device(torch.ones(2), CPU)
    copy_to_device(torch.ones(2), CUDA)
    assert moves == [(CPU, {}), "pinned", (CUDA, {"non_blocking": True})]


@pytest.fixture
def flags() -> Iterator[None]:
    """Restore the flags of torch after the test."""
    matmul, cudnn = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    yield
    torch.set_flush_denormal(False)
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, cudnn


@pytest.mark.usefixtures("flags")
def test_tf32_is_allowed_on_cuda_only() -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    set_arithmetic(CPU)
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == (False, False)
    set_arithmetic(CUDA)
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == (True, True)


def test_no_thread_of_a_command_computes_with_subnormal_numbers() -> None:
    code = """
import torch
from vqdist.distributed.process_group import init_process_group
init_process_group("cpu")
print(int((torch.full((1_000_000,), 1e-30) * 1e-10).count_nonzero()))
"""
    env = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"


class FakeStream:
    """Records in which order streams are used."""

    device = CUDA

    def __init__(self, events: list[str], name: str) -> None:
        self.events, self.name = events, name

    def wait_stream(self, other: "FakeStream") -> None:
        self.events.append(f"{self.name} waits for {other.name}")


def test_copies_have_a_stream_of_their_own_that_the_work_joins(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    main = FakeStream(events, "work")

    @contextmanager
    def enter(stream: FakeStream) -> Iterator[None]:
        events.append(f"enter {stream.name}")
        yield
        events.append(f"leave {stream.name}")

    monkeypatch.setattr(devices.torch.cuda, "Stream", lambda device: FakeStream(events, "copies"))
    monkeypatch.setattr(devices.torch.cuda, "stream", enter)
    monkeypatch.setattr(devices.torch.cuda, "current_stream", lambda device: main)
    monkeypatch.setattr(Tensor, "record_stream", lambda tensor, stream: events.append(f"kept for {stream.name}"))
    stream = CopyStream(CUDA)
    with stream.active():
        events.append("copy")
    stream.join([torch.ones(1), torch.ones(1)])
    assert events == ["enter copies", "copy", "leave copies", "work waits for copies", *["kept for work"] * 2]


def test_other_devices_have_no_stream_of_copies() -> None:
    stream = CopyStream(CPU)
    with stream.active():
        stream.join([torch.ones(1)])
