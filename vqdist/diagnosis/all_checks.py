"""All checks of `vqdist doctor`, in order: those of one process without torch, and those of all ranks.

The functions yield each check as it ends, so that the command can print it.
"""

import socket
import time
from collections.abc import Collection, Generator, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from vqdist.config.schema import RunConfig
from vqdist.data.shards.manifest import Manifest
from vqdist.diagnosis.check import Check, checks_from_problems, is_ready, merge_ranks
from vqdist.diagnosis.cluster_job import check_rendezvous, check_slurm, check_tracking
from vqdist.diagnosis.machine import check_machine
from vqdist.diagnosis.storage import check_dataset, check_file_system, check_space
from vqdist.foundation.errors import DataError, StalledError
from vqdist.foundation.launcher_environment import launcher_setting_problems, read_rank, read_world_size
from vqdist.foundation.progress import count_noun, print_message
from vqdist.runs.dataset_checks import dataset_kind_problems, rank_count_problems, sample_count_problems
from vqdist.runs.resume_checks import is_finished, keep_chosen_values, run_dir_problems
from vqdist.runs.training_data import finished_data_problems

if TYPE_CHECKING:
    from vqdist.distributed.process_group import Ranks

MAX_RENDEZVOUS_S = 120.0


def run_preflight_checks(config: RunConfig, *, planned: Collection[Path] = (), world_size: int = 1) -> Iterator[Check]:
    """Run the checks that take about a second, need one process, and do not import torch.

    Args:
        planned: datasets that another job will make before the run starts.
        world_size: number of ranks that the run will have.
    """
    yield from checks_from_problems("launcher", launcher_setting_problems())
    manifest = yield from _check_inputs(config, planned)
    problems, path = rank_count_problems(config, world_size), str(config.data.path)
    if manifest is not None:
        problems += dataset_kind_problems(config, manifest, path) or sample_count_problems(config, manifest, path)
    yield from checks_from_problems("start", problems)
    yield check_slurm()


def run_all_checks(config: RunConfig, tracking_flag: str | None) -> Iterator[Check]:
    """Run every check, including a short trial of the run. Must be called by all ranks of the allocation.

    Args:
        tracking_flag: `--tracking.mode` of the command line, None if not given.
    """
    inputs: list[Check] = []
    manifest = yield from _show_if_alone(_check_inputs(config), inputs)
    print_message(f"starting {count_noun(read_world_size(), 'rank')} ...")  # loading torch takes seconds

    from vqdist.distributed.process_group import destroy_process_group, init_process_group
    from vqdist.training.preflight import check_run
    from vqdist.training.resolve import agree_on_precision, resolve_config
    from vqdist.training.tasks import TASKS

    # Only check_tracking reads the tracking mode, and it reports a wrong WANDB_MODE.
    config = resolve_config(config, "disabled").replace("tracking", mode=config.tracking.mode)
    problems, _ = check_run(config, TASKS[config.task])
    if problems or not is_ready(inputs):
        known = {(check.found, check.fix) for check in inputs}
        yield from inputs if read_world_size() > 1 else []
        yield from (c for c in checks_from_problems("start", problems) if (c.found, c.fix) not in known)
        return
    start_s = time.perf_counter()
    try:
        ranks = init_process_group(config.run.device, timeout_s=min(config.run.timeout_s, MAX_RENDEZVOUS_S))
    except (RuntimeError, StalledError) as error:
        reason = str(error).splitlines()[0]
        fix = "set the same MASTER_ADDR and a free MASTER_PORT on all ranks, and check the network between the nodes"
        yield from inputs if read_world_size() > 1 else []
        yield Check("ranks", "fix", f"they did not join: {reason}", fix)
        return
    config = agree_on_precision(config, ranks)
    rendezvous_s = time.perf_counter() - start_s
    checks = yield from _check_ranks(config, tracking_flag, inputs, ranks, rendezvous_s=rendezvous_s)
    yield from _check_trial(config, checks, manifest, ranks)
    destroy_process_group()


def _check_inputs(config: RunConfig, planned: Collection[Path] = ()) -> Generator[Check, None, Manifest | None]:
    """Check run directory, dataset and rendezvous without torch; return the manifest of the dataset."""
    name, problems = "run directory", run_dir_problems(keep_chosen_values(config))
    if not problems and is_finished(config):
        finished = [Check(name, "ok", f"{config.run_dir}: finished, nothing left to do")]
        yield from checks_from_problems(name, finished_data_problems(config)) or finished
        return None
    yield from checks_from_problems(name, problems) or [Check(name, "ok", str(config.run_dir))]
    manifest = None
    if config.data.path is not None and Path(config.data.path) in planned:
        yield Check("data", "ok", f"{config.data.path}: made by an earlier job")
    else:
        data, manifest = check_dataset(config, compare_sizes=read_rank() == 0)
        yield from data
    yield check_file_system(config.run_dir)
    yield check_space(config.run_dir, 0, config.checkpoint.keep)
    yield check_rendezvous()
    return manifest


def _show_if_alone(
    checks: Generator[Check, None, Manifest | None], ended: list[Check]
) -> Generator[Check, None, Manifest | None]:
    """Run checks into a list, and yield those of a single process; those of several ranks are merged first."""
    while True:
        try:
            check = next(checks)
        except StopIteration as end:
            return end.value
        ended.append(check)
        if read_world_size() == 1:
            yield check


def _check_ranks(
    config: RunConfig, tracking_flag: str | None, inputs: list[Check], ranks: "Ranks", *, rendezvous_s: float
) -> Generator[Check, None, list[Check]]:
    """Check the machines, what is between them, and their services; return all checks so far.

    Must be called by all ranks.

    Args:
        inputs: the checks before; those of several ranks are merged and yielded here.
    """
    from vqdist.diagnosis.communication import check_communication

    before = [] if ranks.world_size == 1 else inputs
    own = [*before, *check_machine(config.train.precision, ranks.device.type)]
    checks = merge_ranks(ranks.gather_objects(own), ranks.gather_objects(socket.gethostname()))
    yield from checks
    for check in check_communication(config.run_dir, ranks, rendezvous_s):
        checks.append(check)
        yield check
    # Only rank 0 queries Slurm and W&B, because thousands of ranks would overload them.
    for query in (check_slurm, partial(check_tracking, tracking_flag, config)):
        check = ranks.broadcast_object(query() if ranks.is_main else None)
        checks.append(check)
        yield check
    return checks


def _check_trial(config: RunConfig, checks: list[Check], manifest: Manifest | None, ranks: "Ranks") -> Iterator[Check]:
    """Read and train for some seconds if all earlier checks allow it. Must be called by all ranks."""
    from vqdist.diagnosis.trial import READ_S, TRAIN_S, TRAIN_STEPS, check_reading, estimate_duration, run_trial
    from vqdist.training.dataset_choices import choose_for_dataset

    path, obstacle = config.data.path, _find_trial_obstacle(config, checks, manifest)
    if path is None or manifest is None or obstacle is not None:
        yield Check("estimate", "note", f"no steps were run: {obstacle}")
        return
    print_message(f"reading samples for {READ_S:.0f} s ...")
    reading = check_reading(config, path, manifest, ranks)
    yield from reading
    if not is_ready(reading):
        yield Check("estimate", "note", "no steps were run: the dataset is damaged")
        return
    print_message(f"training {count_noun(TRAIN_STEPS, 'step')}, or for {TRAIN_S:.0f} s, without writing anything ...")
    try:
        trial = run_trial(choose_for_dataset(config, manifest), path, manifest, ranks)
    except DataError as error:
        if ranks.world_size > 1:
            raise  # the other ranks wait in a step for this one, until its process ends
        yield from checks_from_problems("training", error.problems)
        return
    space = check_space(config.run_dir, trial.checkpoint_bytes, config.checkpoint.keep)
    yield replace(space, name="checkpoints")
    limit_s = next((check.figures.get("time_limit_s") for check in checks if check.name == "Slurm"), None)
    yield estimate_duration(config, trial, reading[-1].figures["read_samples_per_s"], limit_s)


def _find_trial_obstacle(config: RunConfig, checks: Sequence[Check], manifest: Manifest | None) -> str | None:
    """Return why the run cannot be tried out, None if it can."""
    if not is_ready(checks):
        return "a check above failed"
    if is_finished(config):
        return "the run is finished"
    if config.data.path is None:
        return "the demo dataset is written when the run first starts"
    return "the dataset is remote, or has no index yet" if manifest is None else None
