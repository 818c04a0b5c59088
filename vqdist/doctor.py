"""Check whether a machine or a Slurm allocation is ready for a configuration.

    vqdist doctor [--config FILE] [--section.key VALUE ...]
    srun --nodes=2 --ntasks-per-node=4 launch/rank.sh vqdist.doctor --config FILE

A table goes to stderr as the checks end, JSON to stdout. Exit codes: 0 ready; 2 not ready, with what to fix.
"""

import sys
from collections.abc import Sequence
from itertools import chain

from vqdist.config.command_line import parse_options
from vqdist.config.command_options import DoctorOptions
from vqdist.config.loading import load_config
from vqdist.config.schema import RunConfig
from vqdist.diagnosis.all_checks import run_all_checks, run_preflight_checks
from vqdist.diagnosis.check import Check, checks_from_problems, is_ready, print_as_they_end, summarize_checks, to_json
from vqdist.foundation.command import emit, run_command
from vqdist.foundation.errors import ConfigError, Problem
from vqdist.foundation.launcher_environment import number_problems, read_rank
from vqdist.foundation.progress import print_message
from vqdist.runs.early_checks import find_early_problems

READY, NOT_READY = 0, 2


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    parsed = parse_options("doctor", __doc__ or "", DoctorOptions, argv, takes_config=True)
    if parsed.options is None:
        raise ConfigError(parsed.problems)
    config, problems = load_config(parsed.options.config, parsed.keys)
    if wrong := parsed.problems + problems + number_problems():
        return finish(print_as_they_end(check_wrong_configuration(config, wrong)), config)
    assert config is not None, "without problems there is a configuration"
    tracking_flag = dict(parsed.keys).get("tracking.mode")
    rest = run_preflight_checks(config) if parsed.options.preflight else run_all_checks(config, tracking_flag)
    return finish(print_as_they_end(chain([Check("configuration", "ok", "valid")], rest)), config)


def check_wrong_configuration(config: RunConfig | None, problems: Sequence[Problem]) -> list[Check]:
    """Return the problems of a configuration, and what else a run with the rest of it would meet, as train reports it.

    Args:
        config: with defaults in place of wrong values; None if it cannot be used at all.
    """
    others = [] if config is None else find_early_problems(config, problems)
    new = [problem for problem in others if problem not in problems]
    return checks_from_problems("configuration", problems) + checks_from_problems("start", new)


def finish(checks: list[Check], config: RunConfig | None) -> int:
    """Report the result on rank 0 and return the exit code."""
    if read_rank() == 0:
        print_message(summarize_checks(checks))
        run_dir, data_path = (None, None) if config is None else (config.run_dir, config.data.path)
        emit(to_json(checks, run_dir=run_dir, data_path=data_path))
    return READY if is_ready(checks) else NOT_READY


if __name__ == "__main__":
    sys.exit(run_command(main))
