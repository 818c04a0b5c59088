"""A short trial of a run: read samples, train a few steps, and estimate the duration of the whole run."""

import math
import time
import uuid
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from vqdist.config.schema import RunConfig
from vqdist.data.loading.pipeline import SampleDecoder
from vqdist.data.shards.manifest import Manifest
from vqdist.data.shards.reader import ShardReader
from vqdist.diagnosis.check import Check, checks_from_problems
from vqdist.distributed.process_group import Ranks
from vqdist.foundation.errors import DataError, Problem, limit_problems
from vqdist.foundation.progress import ProgressBar, count_noun, format_duration
from vqdist.training.build import build_state
from vqdist.training.data_pipeline import build_pipeline
from vqdist.training.state import capture
from vqdist.training.step import RankRequests, train_step
from vqdist.training.tasks import TASKS

READ_S = 2.0
TRAIN_STEPS = 20
TRAIN_S = 20.0
# Seconds before the time limit at which slurm/train.sbatch asks a job to stop (#SBATCH --signal).
STOP_LEAD_S = 180.0
MIN_USEFUL_S = 60.0


@dataclass(frozen=True)
class Trial:
    """Measurements of a few training steps; `gpu_memory_gib` is the peak, None on other devices."""

    steps_per_s: float
    checkpoint_bytes: int
    gpu_memory_gib: float | None = None


def check_reading(config: RunConfig, path: str, manifest: Manifest, ranks: Ranks) -> list[Check]:
    """Measure how fast all ranks read and decode samples at the same time. Must be called by all ranks.

    Returns:
        The rate; before it, each damage that was found. With data.on_error skip, a run leaves damaged samples out.
    """
    measured = ranks.gather_objects(measure_reading(path, manifest, ranks.rank))
    rates = [rate for rate, _ in measured]
    damages = list(dict.fromkeys(problem for _, problems in measured for problem in problems))
    found = f"{sum(rates):,.0f} samples/s read and decoded by one process per rank, slowest rank {min(rates):,.0f}"
    checks = checks_from_problems("reading", limit_problems(damages, path))
    if config.data.on_error == "skip":
        checks = [replace(check, state="note") for check in checks]
    return [*checks, Check("reading", "ok", found, figures={"read_samples_per_s": sum(rates)})]


def measure_reading(path: str, manifest: Manifest, rank: int) -> tuple[float, list[Problem]]:
    """Read and decode samples of train on this rank for READ_S, in random order (the worst case).

    Returns:
        The samples per second, and the problems of those that are damaged.
    """
    reader, decode = ShardReader(path, manifest, "train"), SampleDecoder(manifest)
    order = np.random.default_rng(rank).permutation(len(reader))
    problems: dict[Problem, None] = {}
    count, start_s = 0, time.perf_counter()
    while (elapsed_s := time.perf_counter() - start_s) < READ_S:
        try:
            decode(reader.read(int(order[count % len(order)])))
        except DataError as error:
            problems |= dict.fromkeys(error.problems)
        count += 1
    return count / elapsed_s, list(problems)


def run_trial(config: RunConfig, path: str, manifest: Manifest, ranks: Ranks) -> Trial:
    """Train a few steps without writing anything. Must be called by all ranks."""
    state = build_state(config, TASKS[config.task](config, manifest, Path(path), ranks.device), ranks)
    state.task.model.train()
    pipeline = build_pipeline(config, path, manifest, ranks, ranks.broadcast_object(uuid.uuid4().hex))
    with closing(pipeline), ProgressBar(TRAIN_STEPS, unit="steps", label="trial") as shown:
        steps = pipeline.train_steps(0)
        train_step(state, next(steps), RankRequests())  # warm-up
        count, stop, start_s = 0, False, time.perf_counter()
        while count < TRAIN_STEPS and not stop:
            # The step reduces the stop request, so that all ranks end the trial at the same step.
            is_late = ranks.is_main and time.perf_counter() - start_s > TRAIN_S
            stop = train_step(state, next(steps), RankRequests(stop=is_late)).requests.stop
            count += 1
            shown.advance()
        steps_per_s = count / (time.perf_counter() - start_s)
    checkpoint_bytes = sum(tensor.nbytes for group in capture(state)[0].values() for tensor in group.values())
    is_gpu = ranks.device.type == "cuda"
    gpu_memory_gib = torch.cuda.max_memory_allocated(ranks.device) / 2**30 if is_gpu else None
    return Trial(steps_per_s, checkpoint_bytes, gpu_memory_gib)


def estimate_duration(config: RunConfig, trial: Trial, read_samples_per_s: float, time_limit_s: float | None) -> Check:
    """Estimate how long the run takes and, under a time limit, how many requeues it needs.

    Args:
        read_samples_per_s: over all ranks, with one loader process per rank.
    """
    name, fix = "estimate", ""
    duration_s = config.train.max_steps / trial.steps_per_s
    found = f"{trial.steps_per_s:.3g} steps/s, {format_duration(duration_s)} for {config.train.max_steps:,} steps"
    figures = {"steps_per_s": trial.steps_per_s, "wall_time_s": duration_s}
    if time_limit_s is not None:
        useful_s = time_limit_s - STOP_LEAD_S
        if useful_s <= MIN_USEFUL_S and duration_s > max(useful_s, 0):
            fix = f"raise the time limit well above the {STOP_LEAD_S:.0f} s that are reserved for stopping"
            return Check(name, "note", found, fix, figures)
        requeues = max(math.ceil(duration_s / max(useful_s, 1.0)) - 1, 0)
        figures["requeues"] = float(requeues)
        found += f", {count_noun(requeues, 'requeue')}"
    needed = trial.steps_per_s * config.data.global_batch_size
    if needed > read_samples_per_s * max(config.data.num_workers, 1):
        fix = f"raise data.num_workers: training needs {needed:,.0f} samples/s"
    if trial.gpu_memory_gib is not None:
        found += f", {trial.gpu_memory_gib:.1f} GiB of GPU memory"
        figures["gpu_memory_gib"] = trial.gpu_memory_gib
    return Check(name, "note" if fix else "ok", found, fix, figures)
