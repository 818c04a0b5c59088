"""The quantizer: a training step of it against the EMA quantizers of other packages, and its memory."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from vqdist.benchmarks.measure import Bench, Result, compare, left_out
from vqdist.models.quantizer import VectorQuantizer, nearest_code

CODE_DIM = 64
MEMORY_GOAL_MIB = 64.0


def run(bench: Bench) -> list[Result]:
    """Measure the part."""
    sizes = [512, 16384] if bench.device.type == "cuda" else [512]
    results = [result for num_codes in sizes for result in _compare_steps(bench, bench.size(num_codes, 32))]
    return results + _measure_memory(bench)


def _compare_steps(bench: Bench, num_codes: int) -> list[Result]:
    batch, side = bench.size(8, 1), bench.size(64, 4)
    case = f"forward and backward in training, {batch} maps of {side} x {side}, D {CODE_DIM}, K {num_codes}, EMA"
    latents = torch.randn(batch, CODE_DIM, side, side, device=bench.device)
    quantizers: dict[str, tuple[nn.Module, Callable[..., tuple[Tensor, Tensor]]]] = {
        "ours": (VectorQuantizer(num_codes, CODE_DIM, codebook="ema"), lambda found: (found[0], found[2]))
    }
    for name, build in (("lucidrains", _build_lucidrains), ("MONAI", _build_monai)):
        try:
            quantizers[name] = build(num_codes)
        except ImportError as error:
            left_out("quantizer", f"{case}: {name}", f"{error}; pip install vqdist[bench]")

    def step(module: nn.Module, pick: Callable[..., tuple[Tensor, Tensor]]) -> Callable[[], None]:
        module = module.to(bench.device).train()

        def work() -> None:
            inputs = latents.clone().requires_grad_()
            quantized, loss = pick(module(inputs))
            (quantized.mean() + loss).backward()

        return work

    times = bench.time_in_turn({name: step(*found) for name, found in quantizers.items()}, warmups=3)
    ours = times.pop("ours") * 1e3
    return compare("quantizer", case, "ms", ours, {name: value * 1e3 for name, value in times.items()})


def _build_lucidrains(num_codes: int) -> tuple[nn.Module, Callable[..., tuple[Tensor, Tensor]]]:
    from vector_quantize_pytorch import VectorQuantize

    module = VectorQuantize(
        dim=CODE_DIM, codebook_size=num_codes, decay=0.99, commitment_weight=0.25, accept_image_fmap=True
    )
    return module, lambda found: (found[0], found[2])


def _build_monai(num_codes: int) -> tuple[nn.Module, Callable[..., tuple[Tensor, Tensor]]]:
    from monai.networks.layers.vector_quantizer import EMAQuantizer

    return EMAQuantizer(2, num_codes, CODE_DIM, decay=0.99), lambda found: (found[0], found[1])


def _measure_memory(bench: Bench) -> list[Result]:
    num_latents, num_codes = bench.size(131072, 1024), bench.size(8192, 64)
    case = f"extra peak memory, {num_latents:,} latents, D {CODE_DIM}, K {num_codes:,}"
    if bench.device.type == "cuda":
        extra = measure_extra_cuda_mib(num_latents, num_codes)
    else:
        code = f"from vqdist.benchmarks.quantizer import *; print(measure_extra_mib({num_latents}, {num_codes}))"
        # A process of its own: what was at its peak before would hide it.
        extra = float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)
    return compare("quantizer", case, "MiB", max(extra, 0.01), {"goal": MEMORY_GOAL_MIB})


def measure_extra_mib(num_latents: int, num_codes: int) -> float:
    """Return how far a search for the nearest codes, these included, raises the memory of this process at its peak."""
    latents, codebook = torch.randn(num_latents, CODE_DIM), torch.randn(num_codes, CODE_DIM)
    nearest_code(latents[:64], codebook[:64])
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")  # forget the peak of starting up
        before = _peak_kib()
        nearest_code(latents, codebook)
        return (_peak_kib() - before) / 1024
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    nearest_code(latents, codebook)
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on a Mac, KiB elsewhere
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit / 2**20


def _peak_kib() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def measure_extra_cuda_mib(num_latents: int, num_codes: int) -> float:
    """Return the same on the GPU."""
    latents = torch.randn(num_latents, CODE_DIM, device="cuda")
    codebook = torch.randn(num_codes, CODE_DIM, device="cuda")
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    nearest_code(latents, codebook)
    return (torch.cuda.max_memory_allocated() - before) / 2**20
