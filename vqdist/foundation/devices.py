"""Devices that queue their work: the host runs ahead of them, until it reads a result."""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

# mps queues its work too, but has neither page-locked memory nor optimizers that skip a step on the device.
QUEUING_DEVICES = frozenset({"cuda"})


def queues_work(device: torch.device) -> bool:
    """Return whether operators and copies only enter a queue of the device, so that waiting for it is avoided."""
    return device.type in QUEUING_DEVICES


def set_arithmetic(device: torch.device) -> None:
    """Choose how a device rounds: TF32 on a GPU, and no subnormal numbers on a CPU.

    Training and all commands that use its models call this, so that encode finds the codes that training found.

    A GPU rounds the inputs of fp32 convolutions and matrix products to TF32, which is deterministic. A CPU replaces
    numbers below 1e-38 by 0: the momenta of units without gradients decay to such numbers, with which an Intel CPU
    computes up to 75 times more slowly. Threads have this setting from the thread that starts them, so it must be
    made before the first parallel operator.
    """
    if device.type == "cpu":
        torch.set_flush_denormal(True)
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True


def copy_to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor from the CPU to a device, without waiting for the device if it queues its work."""
    if not queues_work(device):
        return tensor.to(device)
    # From pageable memory the driver may wait for the device.
    return tensor.pin_memory().to(device, non_blocking=True)


class CopyStream:
    """A second queue of a CUDA device, for copies during the work of the first; on other devices it does nothing."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def active(self) -> AbstractContextManager[object]:
        """Return a context in which copies enter this queue."""
        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)

    def join(self, tensors: Iterable[Tensor]) -> None:
        """Let later work of the first queue wait for the copies of this one.

        Args:
            tensors: the copies, whose memory must not be reused before that work is done.
        """
        if self._stream is None:
            return
        current = torch.cuda.current_stream(self._stream.device)
        current.wait_stream(self._stream)
        for tensor in tensors:
            tensor.record_stream(current)
