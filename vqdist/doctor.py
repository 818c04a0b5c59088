"""Check whether a machine or a Slurm allocation is ready for a configuration.

    vqdist doctor [--config FILE] [--section.key VALUE ...]
    srun --nodes=2 --ntasks-per-node=4 launch/rank.sh vqdist.doctor --config FILE

A table goes to stderr, JSON to stdout. Exit codes: 0 ready; 2 not ready, with what to fix.
"""

import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from vqdist.config.command_line import parse_options
from vqdist.config.command_options import DoctorOptions
from vqdist.config.loading import load_config
from vqdist.config.schema import RunConfig
from vqdist.data.shards.manifest import Manifest
from vqdist.diagnosis.cluster_job import check_main_address, check_slurm, check_tracking
from vqdist.diagnosis.machine import check_machine
from vqdist.diagnosis.report import Check, build_table, is_ready, merge, of_problems, to_json
from vqdist.diagnosis.storage import check_file_system, check_manifest, check_space
from vqdist.foundation.command import emit, run_command
from vqdist.foundation.errors import ConfigError, StalledError
from vqdist.foundation.launcher_environment import number_problems, read_rank
from vqdist.foundation.progress import print_from_any_rank
from vqdist.runs.resume_checks import is_finished, keep_chosen_values, run_dir_problems

MEETING_LIMIT_S = 120.0
READY, NOT_READY = 0, 2


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    parsed = parse_options("doctor", __doc__ or "", DoctorOptions, argv, takes_config=True)
    if parsed.options is None:
        raise ConfigError(parsed.problems)
    config, problems = load_config(parsed.options.config, parsed.keys)
    checks = of_problems("configuration", parsed.problems + problems + number_problems(), "valid")
    if config is None or not is_ready(checks):
        return finish(checks, config)
    if parsed.options.preflight:
        return finish([*checks, *look(config)[0], check_slurm()], config)
    return finish(checks + examine(config, dict(parsed.keys).get("tracking.mode")), config)


def finish(checks: list[Check], config: RunConfig | None) -> int:
    """Report on rank 0 and return the exit code."""
    if read_rank() == 0:
        print_from_any_rank(build_table(checks))
        facts: dict[str, Any] = {"run_dir": None, "data_path": None}
        if config is not None:
            facts = {"run_dir": str(config.run_dir), "data_path": config.data.path}
        emit(to_json(checks, **facts))
    return READY if is_ready(checks) else NOT_READY


def look(config: RunConfig) -> tuple[list[Check], Manifest | None]:
    """Return what can be told without torch, from one process, and the data set's manifest."""
    problems = run_dir_problems(keep_chosen_values(config))
    if not problems and is_finished(config):
        return [Check("run directory", "ok", f"{config.run_dir}: finished, nothing left to do")], None
    data, manifest = check_manifest(config, sizes=read_rank() == 0)
    checks = [
        *of_problems("run directory", problems, str(config.run_dir)),
        *data,
        check_file_system(config.run_dir),
        check_space(config.run_dir, 0, config.checkpoint.keep),
        check_main_address(),
    ]
    return checks, manifest


def examine(config: RunConfig, tracking: str | None) -> list[Check]:
    """Return all checks.

    Args:
        tracking: the value of `--tracking.mode`; None if it was not given.
    Collective: every rank of the allocation.
    """
    from vqdist.distributed.process_group import destroy_process_group, init_process_group
    from vqdist.training.checks import check_run
    from vqdist.training.resolve import agree_on_precision, resolve_config
    from vqdist.training.tasks import TASKS

    # Only check_tracking reads the tracking mode, and it reports a wrong WANDB_MODE.
    config = resolve_config(config, "disabled").replace("tracking", mode=config.tracking.mode)
    checks, manifest = look(config)
    problems, _ = check_run(config, TASKS[config.task])
    if problems or not is_ready(checks):
        known = {(check.found, check.mend) for check in checks}
        new = [item for item in problems if (f"{item.where}: {item.found}", item.expected) not in known]
        return [*checks, *(of_problems("start", new, "") if new else [])]
    start = time.perf_counter()
    try:
        ranks = init_process_group(config.run.device, timeout_s=min(config.run.timeout_s, MEETING_LIMIT_S))
    except (RuntimeError, StalledError) as error:
        reason = str(error).splitlines()[0]
        mend = "the same MASTER_ADDR and MASTER_PORT on all ranks, a port that is free, a network between them"
        return [*checks, Check("ranks", "mend", f"they did not meet: {reason}", mend)]
    try:
        config = agree_on_precision(config, ranks)
        found = _examine_together(config, checks, ranks, time.perf_counter() - start)
        # Rank 0 alone asks the outside: a thousand ranks would be a crowd.
        asked = [check_slurm(), check_tracking(tracking, config)] if ranks.is_main else []
        found += ranks.broadcast_object(asked)
        return [*found, *_try_run(config, found, manifest, ranks)]
    finally:
        destroy_process_group()


def _examine_together(config: RunConfig, checks: list[Check], ranks: Any, meeting_s: float) -> list[Check]:
    from vqdist.diagnosis import trial

    alone = [*checks, *check_machine(config.train.precision, ranks.device.type)]
    return [
        *merge(ranks.gather_objects(alone), ranks.gather_objects(socket.gethostname())),
        trial.describe_ranks(ranks, meeting_s),
        trial.check_all_reduce(ranks),
        trial.check_sharing(config.run_dir, ranks),
    ]


def _try_run(config: RunConfig, checks: list[Check], manifest: Manifest | None, ranks: Any) -> list[Check]:
    """Read and train for some seconds. Collective."""
    from vqdist.diagnosis import trial

    path = config.data.path
    if path is None or manifest is None or not is_ready(checks):
        return [Check("estimate", "note", "no steps tried: the data are not here, or something above is amiss")]
    reading = trial.check_reading(path, manifest, ranks)
    session, steps_per_s = trial.try_training(config, path, manifest, ranks)
    space = check_space(config.run_dir, trial.count_checkpoint_bytes(session), config.checkpoint.keep)
    limit_s = next((check.figures.get("time_limit_s") for check in checks if check.name == "Slurm"), None)
    read_per_s = reading.figures["read_samples_per_s"]
    return [
        reading,
        replace(space, name="checkpoints"),
        trial.estimate(config, steps_per_s, read_per_s, ranks, limit_s),
    ]


if __name__ == "__main__":
    sys.exit(run_command(main))
