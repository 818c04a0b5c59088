"""Two ranks against one with the same global batch, a core (or a GPU) each."""

import json
import os
import socket
import subprocess
import sys
import time
from statistics import median

import torch

from vqdist.benchmarks.measure import Bench, Result, compare, left_out
from vqdist.training.precision import has_fast_bf16

GLOBAL_BATCH = 8
STEPS = 5
PEER = "1 rank"


def run(bench: Bench) -> list[Result]:
    """Measure the part. Each measurement starts its ranks anew, in turn."""
    on_gpu = bench.device.type == "cuda"
    precision = "bf16" if has_fast_bf16(bench.device) else "fp32"
    side, batch = bench.size(256, 32), bench.size(64 if on_gpu else GLOBAL_BATCH, 2)
    what = "GPU" if on_gpu else "core"
    case = f"2 ranks, global batch {batch} of 1 x {side} x {side}, a {what} each, {precision}"
    places = torch.cuda.device_count() if on_gpu else len(_cores())
    if places < 2:
        return left_out("ddp", case, f"{places} {what}")
    rates: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(bench.repeats):
        for world_size, found in rates.items():
            found.append(measure_ranks(world_size, side, batch, precision, hidden=bench.size(128, 8), on_gpu=on_gpu))
    return compare("ddp", case, "steps/s", median(rates[2]), {PEER: median(rates[1])})


def _cores() -> list[int]:
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def measure_ranks(world_size: int, side: int, batch: int, precision: str, *, hidden: int, on_gpu: bool) -> float:
    """Return the steps a second of so many ranks, each in a process of its own."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    task = json.dumps({"side": side, "batch": batch, "precision": precision, "hidden": hidden, "on_gpu": on_gpu})
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", f"from vqdist.benchmarks.ddp import *; train_as_rank({task!r})"],
            env={**os.environ, **_rank_environment(rank, world_size, port)},
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
    if any(process.returncode for process in processes):
        raise RuntimeError(f"a rank of the ddp benchmark ended with {[process.returncode for process in processes]}")
    return float(outputs[0].split()[-1])


def _rank_environment(rank: int, world_size: int, port: int) -> dict[str, str]:
    facts = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": world_size,
        "LOCAL_WORLD_SIZE": world_size,
        "MASTER_PORT": port,
    }
    path = os.pathsep.join(part or os.getcwd() for part in sys.path)
    told = {"MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    if not torch.cuda.is_available():
        told["ACCELERATE_USE_CPU"] = "true"
    return told | {name: str(value) for name, value in facts.items()}


def train_as_rank(task: str) -> None:
    """Train a few steps as one rank and print the steps a second; what a child process runs."""
    from vqdist.benchmarks.training_sessions import build_paper_session, make_batch, make_images
    from vqdist.distributed.process_group import destroy_process_group, init_process_group
    from vqdist.training.step import RankRequests, train_step

    facts = json.loads(task)
    rank = int(os.environ["RANK"])
    if not facts["on_gpu"]:
        os.sched_setaffinity(0, {_cores()[rank]})
        torch.set_num_threads(1)
    ranks = init_process_group("cuda" if facts["on_gpu"] else "cpu", timeout_s=300)
    session = build_paper_session(
        ranks,
        image_size=facts["side"],
        batch_size=facts["batch"],
        precision=facts["precision"],
        hidden=facts["hidden"],
    )
    batch = make_batch(make_images(facts["batch"], facts["side"]), rank=ranks.rank, world_size=ranks.world_size)
    for _ in range(3):
        train_step(session, [batch], RankRequests())
    ranks.barrier()
    start = time.perf_counter()
    for _ in range(STEPS):
        train_step(session, [batch], RankRequests())
    if ranks.device.type == "cuda":
        torch.cuda.synchronize()
    sys.stdout.write(f"{STEPS / (time.perf_counter() - start)}\n")
    sys.stdout.flush()
    destroy_process_group()
