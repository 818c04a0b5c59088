"""A training step of the quantizer against other packages, and the memory of the nearest-code search."""

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vqdist.benchmarks.measure import Bench, Result, build_installed, child_environment, compare
from vqdist.models.quantizer import VectorQuantizer, nearest_code

CODE_DIM = 64
MEMORY_GOAL_MIB = 64.0
# A quantizer, and the positions of the quantized latents and of the loss in its output.
Quantizer = tuple[nn.Module, int, int]


def run(bench: Bench) -> list[Result]:
    """Measure time and memory."""
    sizes = [512, 16384] if bench.device.type == "cuda" else [512]
    results = [result for num_codes in sizes for result in _compare_steps(bench, bench.size(num_codes, 32))]
    return results + _measure_memory(bench)


def _compare_steps(bench: Bench, num_codes: int) -> list[Result]:
    batch, side = bench.size(8, 1), bench.size(64, 4)
    case = f"forward and backward in training, {batch} maps of {side} x {side}, D {CODE_DIM}, K {num_codes}, EMA"
    latents = torch.randn(batch, CODE_DIM, side, side, device=bench.device)
    builders: dict[str, Callable[[], Quantizer]] = {
        "ours": lambda: (VectorQuantizer(num_codes, CODE_DIM, codebook="ema"), 0, 2),
        "lucidrains": partial(_build_lucidrains, num_codes),
        "MONAI": partial(_build_monai, num_codes),
    }

    def step(module: nn.Module, quantized_at: int, loss_at: int) -> None:
        output: tuple[Any, ...] = module(latents.clone().requires_grad_())
        (output[quantized_at].mean() + output[loss_at]).backward()

    works = {
        name: partial(step, module.to(bench.device).train(), *positions)
        for name, (module, *positions) in build_installed("quantizer", case, builders).items()
    }
    times_ms = {name: seconds * 1e3 for name, seconds in bench.time_in_turn(works, warmups=3).items()}
    return compare("quantizer", case, "ms", times_ms.pop("ours"), times_ms)


def _build_lucidrains(num_codes: int) -> Quantizer:
    from vector_quantize_pytorch import VectorQuantize

    module = VectorQuantize(
        dim=CODE_DIM, codebook_size=num_codes, decay=0.99, commitment_weight=0.25, accept_image_fmap=True
    )
    return module, 0, 2


def _build_monai(num_codes: int) -> Quantizer:
    from monai.networks.layers.vector_quantizer import EMAQuantizer

    return EMAQuantizer(2, num_codes, CODE_DIM, decay=0.99), 0, 1


def _measure_memory(bench: Bench) -> list[Result]:
    num_latents, num_codes = bench.size(131072, 1024), bench.size(8192, 64)
    case = f"extra peak memory, {num_latents:,} latents, D {CODE_DIM}, K {num_codes:,}"
    if bench.device.type == "cuda":
        extra_mib = measure_cuda_memory_mib(num_latents, num_codes)
    else:
        # A new process, because the earlier peak of this one would hide the peak of the search.
        call = f"measure_memory_mib({num_latents}, {num_codes})"
        code = f"from vqdist.benchmarks.quantizer import measure_memory_mib; print({call})"
        process = subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=child_environment()
        )
        extra_mib = float(process.stdout)
    return compare("quantizer", case, "MiB", max(extra_mib, 0.01), {"goal": MEMORY_GOAL_MIB})


def measure_memory_mib(num_latents: int, num_codes: int) -> float:
    """Return how far a nearest-code search, its result included, raises the peak memory of this process."""
    latents, codebook = _build_search(num_latents, num_codes, "cpu")
    nearest_code(latents[:64], codebook[:64])
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")  # resets the peak
    before_mib = _peak_mib()
    nearest_code(latents, codebook)
    return _peak_mib() - before_mib


def _build_search(num_latents: int, num_codes: int, device: str) -> tuple[Tensor, Tensor]:
    return torch.randn(num_latents, CODE_DIM, device=device), torch.randn(num_codes, CODE_DIM, device=device)


def _peak_mib() -> float:
    """Return the peak memory of this process; on Linux since the last write to /proc/self/clear_refs."""
    status = Path("/proc/self/status")
    if status.exists():
        lines = status.read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024
    import resource

    unit = 1 if sys.platform == "darwin" else 1024  # macOS reports bytes, other systems KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def measure_cuda_memory_mib(num_latents: int, num_codes: int) -> float:
    """Return how far a nearest-code search, its result included, raises the peak memory of the GPU."""
    latents, codebook = _build_search(num_latents, num_codes, "cuda")
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    nearest_code(latents, codebook)
    return (torch.cuda.max_memory_allocated() - before) / 2**20
