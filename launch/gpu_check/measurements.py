"""Measurements in this process: TF32, waits and launches of a step, the sampler, and parts of `vqdist bench`."""

import json
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState
from checks import Checker
from commands import run_command

from vqdist.benchmarks.training_sessions import make_batch, make_images
from vqdist.config.loading import load_config
from vqdist.data.shards.manifest import Manifest, SplitInfo
from vqdist.distributed.process_group import Ranks
from vqdist.metrics.images import ssim_map
from vqdist.models import cuda_graphs
from vqdist.models.nearest_code import nearest_code
from vqdist.models.pixelcnn import PixelCNN
from vqdist.training.build import build_state
from vqdist.training.state import TrainingState
from vqdist.training.step import RankRequests, train_step
from vqdist.training.tasks.vqvae import VQVAETask

MAX_FORWARDS = 8.0  # of the time of one forward pass, to sample 64 maps
MIN_SHARE_IN_KERNELS = 0.6
MIN_RATIOS = {"quantizer": 3.0, "step": 2.0}


def compare_tf32(checker: Checker) -> None:
    """Nearest codes and SSIM with and without TF32."""
    torch.manual_seed(0)
    latents, codebook = torch.randn(1000 if checker.small else 100_000, 64), torch.randn(8192, 64)
    exact = torch.cat([torch.cdist(part.double(), codebook.double()).argmin(1) for part in latents.split(4000)])
    images, recon = torch.rand(2, 1, 1, 128, 128)
    expected = ssim_map(images.double(), recon.double()).mean().item()
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    for allowed, goal in ((False, 1e-5), (True, 1e-3)):
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed
        codes = nearest_code(latents.to(checker.device), codebook.to(checker.device)).cpu()
        wrong = (codes != exact).float().mean().item()
        error = abs(ssim_map(images.to(checker.device), recon.to(checker.device)).mean().item() - expected)
        name = "with TF32" if allowed else "in fp32"
        checker.add(f"codes that are not the nearest, {name}", f"{wrong:.4%}", f"{goal:.3%}", wrong <= goal)
        checker.add(f"SSIM of one plane, {name}", f"off by {error:.1e}", "1e-05", error <= 1e-5)
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def measure_a_step(checker: Checker) -> None:
    """Time, waits of the host, launches and share of the time in kernels of a training step."""
    name, side = ("vqvae_debug", 32) if checker.small else ("vqvae_oasis_gpu", 96)
    state = build_session(checker, name, side)
    batch_size = state.config.data.global_batch_size
    step = partial(train_step, state, [make_batch(make_images(batch_size, side))], RankRequests())
    for _ in range(5):
        step()
    step_s = min(time_work(checker, step) for _ in range(5))
    found = f"{step_s * 1e3:.1f} ms, {batch_size / step_s:,.0f} samples/s"
    checker.add(f"{name}: step of {batch_size} samples", found)
    if not checker.on_gpu:
        return
    with counting_waits() as waits:
        step()
    checker.add(f"{name}: waits of the host in a step", f"{len(waits)} {sorted(set(waits))}", "1", len(waits) <= 1)
    launches, kernels_s = profile(step)
    share = kernels_s / step_s
    checker.add(f"{name}: launches in a step", str(launches))
    goal = f"{MIN_SHARE_IN_KERNELS:.0%}"
    checker.add(f"{name}: share of the time in kernels", f"{share:.0%}", goal, share >= MIN_SHARE_IN_KERNELS)


def build_session(checker: Checker, name: str, side: int) -> TrainingState:
    """Build the training state of a shipped configuration for images of side x side."""
    device = torch.device(checker.device)
    flags = {"run.device": checker.device, "optim.decay_steps": 10_000, "data.mirror": "none", "data.crop": "null"}
    config, problems = load_config(name, [(key, str(value)) for key, value in flags.items()])
    assert config is not None, problems
    AcceleratorState._reset_state()  # keeps the precision of the first session of a process, without a public reset
    manifest = Manifest("images", (side, side), 1, {"train": SplitInfo((), 0, 1, (0.15,), (0.04,))})
    task = VQVAETask(config, manifest, Path(), device)
    state = build_state(config, task, Ranks(0, 1, 0, device))
    task.model.train()
    quantizer = task.model.quantizer
    quantizer.initialize(torch.randn(8 * quantizer.num_codes, quantizer.code_dim), 0)
    return state


def profile(step: Callable[[], object]) -> tuple[int, float]:
    """Return the launches of a step and the seconds in kernels."""
    with torch.profiler.profile() as profiled:
        step()
        torch.cuda.synchronize()
    events = profiled.key_averages()
    launches = sum(event.count for event in events if "LaunchKernel" in event.key or "GraphLaunch" in event.key)
    on_device = [event for event in events if event.device_type == torch.autograd.DeviceType.CUDA]
    return launches, sum(event.self_device_time_total for event in on_device) / 1e6


@contextmanager
def counting_waits() -> Iterator[list[str]]:
    """Yield the places where the host waited for the GPU."""
    places: list[str] = []
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield places
        found = (warning for warning in caught if "synchronizing" in str(warning.message))
        places += [f"{Path(warning.filename).name}:{warning.lineno}" for warning in found]
    finally:
        torch.cuda.set_sync_debug_mode("default")


def time_work(checker: Checker, work: Callable[[], object]) -> float:
    """Return the seconds of one call, with the work that it queues."""
    wait = torch.cuda.synchronize if checker.on_gpu else lambda: None
    wait()
    before_s = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - before_s


def sample_maps(checker: Checker) -> None:
    """The sampler against one forward pass, and its graph against single launches."""
    torch.manual_seed(0)
    keys = {"hidden": 8, "layers": 2} if checker.small else {"hidden": 64, "layers": 15}
    model, side = PixelCNN(64 if checker.small else 512, **keys).to(checker.device).eval(), 8 if checker.small else 32
    noise = torch.rand(4, side * side, model.num_codes).log().neg().log().neg().to(checker.device)
    graphed = model.sample(4, (side, side), noise)
    capturing, cuda_graphs.CAPTURING_DEVICES = cuda_graphs.CAPTURING_DEVICES, frozenset()
    single = model.sample(4, (side, side), noise)
    cuda_graphs.CAPTURING_DEVICES = capturing
    differ = (graphed != single).float().mean().item()
    checker.add("codes that a graph samples differently", f"{differ:.2%}", "0", differ == 0)
    with torch.inference_mode():
        for num in (4,) if checker.small else (16, 64, 512):
            codes = torch.zeros(num, side, side, dtype=torch.int64, device=checker.device)
            sampled_s, forward_s = (
                min(time_work(checker, work) for _ in range(3))
                for work in (partial(model.sample, num, (side, side)), partial(model, codes))
            )
            ratio = sampled_s / forward_s
            found = f"{sampled_s:.3f} s, {ratio:.1f} forward passes of {forward_s * 1e3:.1f} ms"
            limit = MAX_FORWARDS if num == 64 and checker.on_gpu else None
            passed = None if limit is None else ratio <= limit
            checker.add(f"{num} maps of {side} x {side}", found, "" if limit is None else f"{limit:.0f}", passed)


def run_bench(checker: Checker) -> None:
    """The parts of `vqdist bench` with goals for GPUs."""
    file = checker.out / "bench.json"
    sizes = ("--small", "true", "--repeats", 1) if checker.small else ()
    code = run_command(
        "bench", ["quantizer", "step", "--out", file, *sizes], checker.out / "bench.log", checker.process_limit_s
    )
    if code:
        raise RuntimeError(f"exit code {code}, see {checker.out / 'bench.log'}")
    results = json.loads(file.read_text())["results"]
    for result in results:
        peer = f"; {result['peer']} {result['theirs']:.3g}, ratio {result['ratio']:.2f}" if result["peer"] else ""
        goal = _find_goal(result) if checker.on_gpu else None
        passed = None if goal is None else result["ratio"] >= goal
        found = f"{result['ours']:.3g} {result['unit']}{peer}"
        checker.add(f"{result['part']}: {result['case']}", found, "" if goal is None else f"{goal:g}", passed)


def _find_goal(result: dict[str, Any]) -> float | None:
    compared = "K 16384" in result["case"] if result["part"] == "quantizer" else result["peer"] == "usual form, fp32"
    return MIN_RATIOS[result["part"]] if compared and result["peer"] else None
