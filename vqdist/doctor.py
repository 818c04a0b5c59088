"""Is this machine, or this allocation, ready for this configuration?

    python -m vqdist.doctor [--config FILE] [--section.key VALUE ...]
    srun --nodes=2 --ntasks-per-node=4 launch/rank.sh vqdist.doctor --config FILE

A table for a person on stderr, JSON on stdout. Exit codes: 0 ready; 2 something to fix.
"""

import sys
from collections.abc import Sequence

from vqdist.config.command_line import build_help, parse_arguments
from vqdist.config.loading import load_config
from vqdist.config.schema import RunConfig
from vqdist.diagnosis.checklist import run_all_checks, run_preflight_checks
from vqdist.diagnosis.report import Check, checks_from_problems, format_checks, is_ready, to_json
from vqdist.foundation.command import emit, print_from_any_rank, run_command
from vqdist.foundation.launcher_environment import number_problems
from vqdist.foundation.progress import is_first_rank

SWITCHES = (
    "--preflight      what can be known in a second and by one process, as slurm/train.sbatch asks "
    "(switch, default: false)",
)
READY, NOT_READY = 0, 2


def main(argv: Sequence[str]) -> int:
    """Run the command; see the module's docstring."""
    if any(word in {"-h", "--help"} for word in argv):
        sys.stdout.write(build_help("vqdist.doctor", __doc__ or "", SWITCHES))
        return READY
    path, flags, problems = parse_arguments(argv, ("--verbose", "--preflight"))
    config, more = load_config(path, flags)
    checks = checks_from_problems("configuration", problems + more + number_problems())
    if config is None or checks:
        return finish(checks, config)
    checks = [Check("configuration", "ok", "valid")]
    if "--preflight" in argv:
        return finish(checks + run_preflight_checks(config), config)
    return finish(checks + run_all_checks(config, dict(flags).get("tracking.mode")), config)


def finish(checks: list[Check], config: RunConfig | None) -> int:
    """Report on rank 0 and return the exit code."""
    if is_first_rank():
        print_from_any_rank(format_checks(checks))
        run_dir, data_path = (None, None) if config is None else (config.run_dir, config.data.path)
        emit(to_json(checks, run_dir=run_dir, data_path=data_path))
    return READY if is_ready(checks) else NOT_READY


if __name__ == "__main__":
    sys.exit(run_command(main))
