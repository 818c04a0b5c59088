"""Training speed of two ranks against one rank with the same global batch, one core or GPU per rank."""

import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial

import torch

from vqdist.benchmarks.measure import Bench, Result, child_environment, compare, print_skipped
from vqdist.benchmarks.training_sessions import build_paper_session, make_batch, make_images
from vqdist.distributed.process_group import end_ranks, start_ranks
from vqdist.training.precision import has_fast_bf16
from vqdist.training.step import RankRequests, train_step

WARMUP_STEPS = 3
STEPS = 5


@dataclass(frozen=True)
class DdpCase:
    """The training that each rank runs.

    Attributes:
        batch: global batch size.
        hidden: channels of the VQ-VAE.
        on_gpu: one GPU per rank; otherwise one core per rank.
    """

    image_size: int
    batch: int
    precision: str
    hidden: int
    on_gpu: bool


def run(bench: Bench) -> list[Result]:
    """Measure the steps per second of one and two ranks. Each repetition starts new processes."""
    on_gpu = bench.device.type == "cuda"
    case = DdpCase(
        image_size=bench.size(256, 32),
        batch=bench.size(64 if on_gpu else 8, 2),
        precision="bf16" if has_fast_bf16(bench.device) else "fp32",
        hidden=bench.size(128, 8),
        on_gpu=on_gpu,
    )
    unit = "GPU" if on_gpu else "core"
    size = f"1 x {case.image_size} x {case.image_size}"
    name = f"2 ranks, global batch {case.batch} of {size}, a {unit} each, {case.precision}"
    count = torch.cuda.device_count() if on_gpu else len(_cores())
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
    """Train on `world_size` ranks, each in a new process, and return the steps per second of rank 0."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    code = f"from vqdist.benchmarks.ddp import DdpCase, train_as_rank; print(train_as_rank({case!r}))"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env=child_environment() | _rank_environment(rank, world_size, port),
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(world_size)
    ]
    try:
        outputs = [process.communicate(timeout=600)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    codes = [process.returncode for process in processes]
    if any(codes):
        raise RuntimeError(f"a rank of the ddp benchmark failed: exit codes {codes}")
    return float(outputs[0].split()[-1])


def _rank_environment(rank: int, world_size: int, port: int) -> dict[str, str]:
    numbers = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": world_size,
        "LOCAL_WORLD_SIZE": world_size,
        "MASTER_PORT": port,
        "OMP_NUM_THREADS": 1,
    }
    environment = {"MASTER_ADDR": "127.0.0.1", **{name: str(value) for name, value in numbers.items()}}
    if not torch.cuda.is_available():
        environment["ACCELERATE_USE_CPU"] = "true"
    return environment


def train_as_rank(case: DdpCase) -> float:
    """Train a few steps as one rank of the environment and return the steps per second."""
    if not case.on_gpu:
        os.sched_setaffinity(0, {_cores()[int(os.environ["RANK"])]})
        torch.set_num_threads(1)
    ranks = start_ranks("cuda" if case.on_gpu else "cpu", timeout_s=300)
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
    end_ranks()
    return rate
