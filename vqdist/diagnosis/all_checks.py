"""All checks of `vqdist doctor`, in order: those of one process without torch, and those of all ranks."""

import socket
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from vqdist.config.schema import RunConfig
from vqdist.data.shards.manifest import Manifest
from vqdist.diagnosis.check import Check, checks_from_problems, is_ready, merge_ranks
from vqdist.diagnosis.cluster_job import check_rendezvous, check_slurm, check_tracking
from vqdist.diagnosis.machine import check_machine
from vqdist.diagnosis.storage import check_dataset, check_file_system, check_space
from vqdist.foundation.errors import StalledError
from vqdist.foundation.launcher_environment import read_rank
from vqdist.runs.resume_checks import is_finished, keep_chosen_values, run_dir_problems

if TYPE_CHECKING:
    from vqdist.distributed.process_group import Ranks

MAX_RENDEZVOUS_S = 120.0


def run_preflight_checks(config: RunConfig) -> list[Check]:
    """Run the checks that take about a second, need one process, and do not import torch."""
    return [*_check_inputs(config)[0], check_slurm()]


def run_all_checks(config: RunConfig, tracking_flag: str | None) -> list[Check]:
    """Run every check, including a short trial of the run. Must be called by all ranks of the allocation.

    Args:
        tracking_flag: `--tracking.mode` of the command line, None if not given.
    """
    from vqdist.distributed.process_group import destroy_process_group, init_process_group
    from vqdist.training.preflight import check_run
    from vqdist.training.resolve import agree_on_precision, resolve_config
    from vqdist.training.tasks import TASKS

    # Only check_tracking reads the tracking mode, and it reports a wrong WANDB_MODE.
    config = resolve_config(config, "disabled").replace("tracking", mode=config.tracking.mode)
    checks, manifest = _check_inputs(config)
    problems, _ = check_run(config, TASKS[config.task])
    if problems or not is_ready(checks):
        known = {(check.found, check.fix) for check in checks}
        return checks + [c for c in checks_from_problems("start", problems) if (c.found, c.fix) not in known]
    start_s = time.perf_counter()
    try:
        ranks = init_process_group(config.run.device, timeout_s=min(config.run.timeout_s, MAX_RENDEZVOUS_S))
    except (RuntimeError, StalledError) as error:
        reason = str(error).splitlines()[0]
        fix = "the same MASTER_ADDR and MASTER_PORT on all ranks, a free port, a network between the nodes"
        return [*checks, Check("ranks", "fix", f"they did not join: {reason}", fix)]
    try:
        config = agree_on_precision(config, ranks)
        checks = _check_ranks(config, checks, ranks, time.perf_counter() - start_s)
        # Only rank 0 queries Slurm and W&B, because thousands of ranks would overload them.
        services = [check_slurm(), check_tracking(tracking_flag, config)] if ranks.is_main else []
        checks += ranks.broadcast_object(services)
        return checks + _check_trial(config, checks, manifest, ranks)
    finally:
        destroy_process_group()


def _check_inputs(config: RunConfig) -> tuple[list[Check], Manifest | None]:
    """Check run directory, dataset and rendezvous without torch; also return the manifest of the dataset."""
    problems = run_dir_problems(keep_chosen_values(config))
    if not problems and is_finished(config):
        return [Check("run directory", "ok", f"{config.run_dir}: finished, nothing left to do")], None
    data, manifest = check_dataset(config, compare_sizes=read_rank() == 0)
    checks = [
        *(checks_from_problems("run directory", problems) or [Check("run directory", "ok", str(config.run_dir))]),
        *data,
        check_file_system(config.run_dir),
        check_space(config.run_dir, 0, config.checkpoint.keep),
        check_rendezvous(),
    ]
    return checks, manifest


def _check_ranks(config: RunConfig, checks: list[Check], ranks: "Ranks", rendezvous_s: float) -> list[Check]:
    """Merge the checks of each rank, its machine included, and add those between ranks. Must be called by all ranks."""
    from vqdist.diagnosis.communication import check_communication

    own = [*checks, *check_machine(config.train.precision, ranks.device.type)]
    merged = merge_ranks(ranks.gather_objects(own), ranks.gather_objects(socket.gethostname()))
    return merged + check_communication(config.run_dir, ranks, rendezvous_s)


def _check_trial(config: RunConfig, checks: list[Check], manifest: Manifest | None, ranks: "Ranks") -> list[Check]:
    """Read and train for some seconds if all earlier checks allow it. Must be called by all ranks."""
    from vqdist.diagnosis.trial import check_reading, estimate_duration, run_trial
    from vqdist.training.dataset_choices import choose_for_dataset

    path = config.data.path
    if path is None or manifest is None or not is_ready(checks):
        return [Check("estimate", "note", "no steps were run: there is no local dataset, or a check above failed")]
    reading = check_reading(path, manifest, ranks)
    trial = run_trial(choose_for_dataset(config, manifest), path, manifest, ranks)
    space = check_space(config.run_dir, trial.checkpoint_bytes, config.checkpoint.keep)
    limit_s = next((check.figures.get("time_limit_s") for check in checks if check.name == "Slurm"), None)
    estimate = estimate_duration(config, trial, reading.figures["read_samples_per_s"], limit_s)
    return [reading, replace(space, name="checkpoints"), estimate]
