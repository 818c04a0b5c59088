"""A trial of the real thing: the ranks meet, sum tensors, read, train a few steps, and say what the run will take."""

import math
import os
import socket
import time
import uuid
from pathlib import Path

import torch

from vqdist.config.schema import RunConfig
from vqdist.data.shards.manifest import Manifest
from vqdist.diagnosis.report import Check
from vqdist.diagnosis.storage import MOST_CLOCK_SKEW_S, measure_reading, nearest_folder
from vqdist.distributed.process_group import Ranks
from vqdist.training.build import build_state
from vqdist.training.data_pipeline import build_pipeline
from vqdist.training.state import TrainingState, capture
from vqdist.training.step import RankRequests, train_step
from vqdist.training.tasks import TASKS

REDUCE_BYTES = 2**24
REDUCE_ROUNDS = 5
SHARING_TRIES = 10
TRIAL_STEPS = 20
TRIAL_S = 20.0
# What a job needs before its time limit to stop, as slurm/train.sbatch asks for it.
LEAD_S = 180.0


def describe_ranks(ranks: Ranks, took_s: float) -> Check:
    """Say who met. Collective."""
    hosts = ranks.gather_objects(socket.gethostname())
    found = f"{ranks.world_size} on {len(set(hosts))} hosts met in {took_s:.1f} s, {ranks.device.type}"
    return Check("ranks", "ok", found, figures={"ranks": float(ranks.world_size), "meeting_s": took_s})


def check_all_reduce(ranks: Ranks) -> Check:
    """Sum 16 MiB over all ranks, see that the sum is right, and time it. Collective."""
    name = "all-reduce"
    if ranks.world_size == 1:
        return Check(name, "ok", "one rank: nothing to sum")
    tensor = torch.ones(REDUCE_BYTES // 4, device=ranks.device)
    times = []
    for _ in range(REDUCE_ROUNDS):
        tensor.fill_(1.0)
        ranks.barrier()
        start = time.perf_counter()
        ranks.all_reduce(tensor)
        total = tensor[-1].item()
        times.append(time.perf_counter() - start)
        if total != ranks.world_size:
            return Check(name, "mend", f"{total} instead of {ranks.world_size}", "another network interface or driver")
    took_s = sorted(times)[len(times) // 2]
    # Each rank sends and receives 2 (W - 1) / W of the tensor, whatever the number of ranks.
    rate = REDUCE_BYTES * 2 * (ranks.world_size - 1) / ranks.world_size / took_s
    found = f"16 MiB in {took_s * 1000:.1f} ms: {rate / 1e9:.2f} GB/s in and out of each rank"
    return Check(name, "ok", found, figures={"all_reduce_bytes_per_s": rate})


def check_sharing(run_dir: Path, ranks: Ranks) -> Check:
    """See that a file of rank 0 is there for every rank, and that the hosts' clocks agree. Collective."""
    name, folder = "shared files", nearest_folder(run_dir)
    path = Path(ranks.broadcast_object(str(folder / f".vqdist-doctor-{uuid.uuid4().hex}")))
    if ranks.is_main:
        path.touch()
    ranks.barrier()
    now_s = time.time()
    seen = path.exists()
    for _ in range(SHARING_TRIES):  # network file systems keep what they know of a folder for some seconds
        if seen:
            break
        time.sleep(1.0)
        os.listdir(path.parent)
        seen = path.exists()
    views = ranks.gather_objects((seen, now_s, socket.gethostname()))
    if ranks.is_main:
        path.unlink()
    blind = sorted({host for there, _, host in views if not there})
    if blind:
        return Check(
            name, "mend", f"{path.parent} of rank 0 is another folder on {', '.join(blind)}", "a shared run.dir"
        )
    spread_s = max(view[1] for view in views) - min(view[1] for view in views)
    found = f"{path.parent} is the same on all ranks, clocks within {spread_s:.2f} s"
    if spread_s > MOST_CLOCK_SKEW_S:
        return Check(name, "note", found, "synchronised clocks (logs of nodes will not line up)")
    return Check(name, "ok", found)


def check_reading(path: str, manifest: Manifest, ranks: Ranks) -> Check:
    """Let all ranks read at once. Collective."""
    rates = ranks.gather_objects(measure_reading(path, manifest, ranks.rank, ranks.world_size))
    found = f"{sum(rates):,.0f} samples/s read and decoded by one process per rank, slowest rank {min(rates):,.0f}"
    return Check("reading", "ok", found, figures={"read_samples_per_s": sum(rates)})


def try_training(config: RunConfig, path: str, manifest: Manifest, ranks: Ranks) -> tuple[TrainingState, float]:
    """Train a few steps without writing anything; return the session and the steps of a second. Collective."""
    state = build_state(config, TASKS[config.task](config, manifest, Path(path), ranks.device), ranks)
    state.task.model.train()
    feed = build_pipeline(config, path, manifest, ranks, ranks.broadcast_object(uuid.uuid4().hex))
    steps = feed.train_steps(0)
    train_step(state, next(steps), RankRequests())
    count, start = 0, time.perf_counter()
    over = False
    while count < TRIAL_STEPS and not over:
        # All ranks must agree on when the trial is over; a wish of one is heard by all.
        late = ranks.is_main and time.perf_counter() - start > TRIAL_S
        over = train_step(state, next(steps), RankRequests(stop=late)).requests.stop
        count += 1
    feed.close()
    return state, count / (time.perf_counter() - start)


def count_checkpoint_bytes(state: TrainingState) -> int:
    """Return the size of a checkpoint of this run."""
    tensors, _ = capture(state)
    return sum(tensor.numel() * tensor.element_size() for group in tensors.values() for tensor in group.values())


def estimate(
    config: RunConfig, steps_per_s: float, read_per_s: float, ranks: Ranks, time_limit_s: float | None
) -> Check:
    """Say how long the run will take, and over how many lives of a job."""
    wall_s = config.train.max_steps / steps_per_s
    found = f"{steps_per_s:.3g} steps/s, {format_hours(wall_s)} for {config.train.max_steps:,} steps"
    figures = {"steps_per_s": steps_per_s, "wall_time_s": wall_s}
    mend = ""
    if time_limit_s is not None:
        useful_s = time_limit_s - LEAD_S
        if useful_s <= 60 and wall_s > max(useful_s, 0):
            limit = f"a time limit well above {LEAD_S:.0f} s, the time to stop in"
            return Check("estimate", "note", found, limit, figures)
        requeues = max(math.ceil(wall_s / max(useful_s, 1.0)) - 1, 0)
        figures["requeues"] = float(requeues)
        found += f", {requeues} requeues"
    needed = steps_per_s * config.data.global_batch_size
    if needed > read_per_s * max(config.data.num_workers, 1):
        mend = f"more data.num_workers: training takes {needed:,.0f} samples/s"
    if ranks.device.type == "cuda":
        used = torch.cuda.max_memory_allocated(ranks.device) / 2**30
        found += f", {used:.1f} GiB of GPU memory"
        figures["gpu_memory_gib"] = used
    return Check("estimate", "note" if mend else "ok", found, mend, figures)


def format_hours(seconds: float) -> str:
    """Return a duration as h:mm:ss."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d} h"
