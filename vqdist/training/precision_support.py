"""Which precisions a device supports, and which of them are fast."""

import platform

import torch

from vqdist.distributed.process_group import wants_cpu
from vqdist.foundation.errors import Problem


def precision_problems(precision: str, device: str) -> list[Problem]:
    """Return the problems of a precision on the device that a run would use; fp16 needs the loss scaler of CUDA."""
    where = _find_device(device).type
    if precision == "fp16" and where != "cuda":
        return [Problem("train.precision", "fp16 without a CUDA device", "fp32 or bf16")]
    if precision == "bf16" and where == "mps" and not torch.backends.mps.is_macos_or_newer(14, 0):
        return [Problem("train.precision", "bf16 on mps before macOS 14", "fp32")]
    return []


def choose_precision(device: str) -> str:
    """Return bf16 if the device that a run would use has instructions for it, else fp32."""
    where = _find_device(device)
    return "bf16" if where.type != "mps" and has_fast_bf16(where) else "fp32"


def has_fast_bf16(device: torch.device) -> bool:
    """Return whether the device is known to compute bf16 in hardware."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # torch 2.15 has no public test for a CPU; older and newer versions may lack these functions.
    checks = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile"))
    return any(check is not None and check() for check in checks)


def find_slow_precision(precision: str, device: torch.device) -> str | None:
    """Return why a precision is slow on a device; None if it is not, or if torch cannot detect it."""
    if precision != "bf16" or device.type == "mps" or has_fast_bf16(device):
        return None
    if device.type == "cpu" and platform.machine() not in {"x86_64", "AMD64"}:
        return None
    name = "GPU" if device.type == "cuda" else "CPU"
    return f"train.precision is bf16, for which this {name} has no instructions"


def _find_device(device: str) -> torch.device:
    """Return the device that a run would use: cuda, else mps, else the CPU."""
    if wants_cpu(device):
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
