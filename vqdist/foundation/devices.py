"""Devices that queue their work: the host runs ahead of them, until it reads a result."""

import torch
from torch import Tensor

# mps queues its work too, but has neither page-locked memory nor optimizers that skip a step on the device.
QUEUING_DEVICES = frozenset({"cuda"})


def queues_work(device: torch.device) -> bool:
    """Return whether operators and copies only enter a queue of the device, so that waiting for it is avoided."""
    return device.type in QUEUING_DEVICES


def copy_to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor from the CPU to a device, without waiting for the device if it queues its work."""
    if not queues_work(device):
        return tensor.to(device)
    # From pageable memory the driver may wait for the device.
    return tensor.pin_memory().to(device, non_blocking=True)
