"""What a device makes of a precision: what it cannot do, and what it does slowly."""

import platform

import torch

from vqdist.distributed.process_group import wants_cpu
from vqdist.foundation.errors import Problem


def precision_problems(precision: str, device: str) -> list[Problem]:
    """Return what is wrong with a precision on the device that a run would take: fp16 needs CUDA and its scaler."""
    where = _find_device(device).type
    if precision == "fp16" and where != "cuda":
        return [Problem("train.precision", "fp16 without a CUDA device", "fp32 or bf16")]
    if precision == "bf16" and where == "mps" and not torch.backends.mps.is_macos_or_newer(14, 0):
        return [Problem("train.precision", "bf16 on mps before macOS 14", "fp32")]
    return []


def choose_precision(device: str) -> str:
    """Return bf16 where the device that a run would take has instructions for it, else fp32."""
    where = _find_device(device)
    return "bf16" if where.type != "mps" and has_fast_bf16(where) else "fp32"


def has_fast_bf16(device: torch.device) -> bool:
    """Tell whether bf16 is known to be done in hardware."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # The only test that torch 2.15 has for a CPU, and only where it knows the question.
    checks = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile"))
    return any(check is not None and check() for check in checks)


def find_slow_precision(precision: str, device: torch.device) -> str | None:
    """Return why a precision costs time on a device; None where it does not, or where torch cannot tell."""
    if precision != "bf16" or device.type == "mps" or has_fast_bf16(device):
        return None
    if device.type == "cpu" and platform.machine() not in {"x86_64", "AMD64"}:
        return None
    name = "GPU" if device.type == "cuda" else "CPU"
    return f"train.precision is bf16, for which this {name} has no instructions"


def _find_device(device: str) -> torch.device:
    """Return the device that a run would take: cuda, else mps, else the CPU."""
    if wants_cpu(device):
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
