"""Train a VQ-VAE, or a PixelCNN over its codes.

    accelerate launch -m vqdist.train [--config FILE] [--section.key VALUE ...]

Without --config it trains a VQ-VAE on synthetic slices that it makes under run.dir. Without a launcher it uses one
device. --print-config shows the resulting configuration. Exit codes: 0 finished; 75 stopped with a checkpoint, run the
same command again to continue; 2 wrong command, configuration or data; 1 anything else.
"""

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vqdist.config.command_line import parse_options
from vqdist.config.command_options import TrainOptions
from vqdist.config.loading import load_config
from vqdist.config.model_config import MODEL_CONFIGS
from vqdist.config.schema import dump_yaml
from vqdist.config.tracking_mode import resolve_mode
from vqdist.distributed.stop_requests import StopRequest, handling_stop_requests
from vqdist.foundation.command import run_command
from vqdist.foundation.errors import ConfigError, collect
from vqdist.foundation.launcher_environment import read_rank
from vqdist.runs.early_checks import find_early_problems, needs_torch

if TYPE_CHECKING:
    from vqdist.training.tasks.task import Task


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    with handling_stop_requests() as stop:  # before torch is imported: a signal at any time ends with a checkpoint
        return train(argv, stop)


def train(argv: Sequence[str], stop: StopRequest, task: "type[Task] | None" = None) -> int:
    """Check the configuration, then train; return the exit code.

    Args:
        task: another stage than the two of vqdist; None for the one that the configuration names.
    """
    models = MODEL_CONFIGS if task is None else {task.name: task.config_type}
    parsed = parse_options("train", __doc__ or "", TrainOptions, argv, takes_config=True)
    if parsed.options is None:
        raise ConfigError(parsed.problems)
    config, problems = load_config(parsed.options.config, parsed.keys, models)
    problems = parsed.problems + problems
    if config is None:
        raise ConfigError(problems)
    if parsed.options.print_config and not problems:
        if read_rank() == 0:
            sys.stdout.write(dump_yaml(config))
        return 0
    mode = config.tracking.mode
    tracking_flag = mode if dict(parsed.keys).get("tracking.mode") else None
    if problems and not needs_torch(config):
        collect(  # raises
            lambda: resolve_mode(tracking_flag, os.environ, mode),
            problems=problems + find_early_problems(config, problems),
        )

    # Torch is imported from here on, so that --help and a wrong configuration end at once.
    from vqdist.distributed.process_group import destroy_process_group
    from vqdist.training.preflight import check_run
    from vqdist.training.resolve import resolve_config
    from vqdist.training.run import run
    from vqdist.training.tasks import TASKS

    try:
        config = resolve_config(config, tracking_flag)
    except ConfigError as error:
        problems += error.problems
        config = resolve_config(config, "disabled")
    task = task or TASKS[config.task]
    found, dataset = check_run(config, task)
    if problems + found:
        raise ConfigError(problems + found)
    code = run(config, task, dataset, stop)
    destroy_process_group()
    return code


if __name__ == "__main__":
    sys.exit(run_command(main))
