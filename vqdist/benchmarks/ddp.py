"""Training speed of two ranks against one rank with the same global batch, one core or GPU per rank."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial

import torch

from vqdist.benchmarks.measure import Bench, Result, child_environment, compare, print_skipped
from vqdist.benchmarks.training_sessions import build_paper_session, make_batch, make_images
from vqdist.distributed.process_group import destroy_process_group, init_process_group
from vqdist.training.precision_support import has_fast_bf16
from vqdist.training.step import RankRequests, train_step

WARMUP_STEPS = 3
STEPS = 5
TIMEOUT_S = 600


@dataclass(frozen=True)
class DdpCase:
    """What the ranks train: `batch` is the global batch size, `hidden` the channels of the VQ-VAE."""

    image_size: int
    batch: int
    hidden: int
    precision: str
    on_gpu: bool


def run(bench: Bench) -> list[Result]:
    """Measure the steps per second of one and two ranks. Each repetition starts new processes."""
    on_gpu = bench.device.type == "cuda"
    precision = "bf16" if has_fast_bf16(bench.device) else "fp32"
    size, batch = bench.size(256, 32), bench.size(64 if on_gpu else 8, 2)
    case = DdpCase(size, batch, bench.size(128, 8), precision, on_gpu)
    unit, count = ("GPU", torch.cuda.device_count()) if on_gpu else ("core", len(_cores()))
    name = f"2 ranks, global batch {batch} of 1 x {size} x {size}, a {unit} each, {precision}"
    if count < 2:
        print_skipped("ddp", name, f"{count} {unit}")
        return []
    measures = {"1 rank": partial(measure_ranks, 1, case), "2 ranks": partial(measure_ranks, 2, case)}
    rates = bench.measure_in_turn(measures)
    return compare("ddp", name, "steps/s", rates.pop("2 ranks"), rates)


def _cores() -> list[int]:
    """Return the cores that this process may use, none where a process cannot be bound to a core."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def measure_ranks(world_size: int, case: DdpCase) -> float:
    """Train on new ranks, started by torchrun, and return their steps per second."""
    code = f"from vqdist.benchmarks.ddp import DdpCase, train_as_rank; print(train_as_rank({case!r}))"
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world_size}", "--no-python"]
    environment = child_environment() | {"OMP_NUM_THREADS": "1"}
    if not torch.cuda.is_available():
        environment["ACCELERATE_USE_CPU"] = "true"
    command = [sys.executable, *launcher, sys.executable, "-c", code]
    ranks = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True, timeout=TIMEOUT_S)
    return min(map(float, ranks.stdout.split()))


def train_as_rank(case: DdpCase) -> float:
    """Train a few steps as one rank of the environment and return the steps per second."""
    if not case.on_gpu:
        os.sched_setaffinity(0, {_cores()[int(os.environ["RANK"])]})
        torch.set_num_threads(1)
    ranks = init_process_group("cuda" if case.on_gpu else "cpu", timeout_s=300)
    session = build_paper_session(
        ranks, image_size=case.image_size, batch_size=case.batch, precision=case.precision, hidden=case.hidden
    )
    batch = make_batch(make_images(case.batch, case.image_size), rank=ranks.rank, world_size=ranks.world_size)
    for _ in range(WARMUP_STEPS):
        train_step(session, [batch], RankRequests())
    ranks.barrier()
    start_s = time.perf_counter()
    for _ in range(STEPS):
        train_step(session, [batch], RankRequests())
    if ranks.device.type == "cuda":
        torch.cuda.synchronize()
    rate = STEPS / (time.perf_counter() - start_s)
    destroy_process_group()
    return rate
