"""Train a VQ-VAE, or a PixelCNN over its codes.

    accelerate launch -m vqdist.train [--config FILE] [--section.key VALUE ...]

Without --config it trains a VQ-VAE on synthetic slices that it makes under run.dir. Without a launcher it uses one
device. Exit codes: 0 finished; 75 stopped with a checkpoint, run the same command again to continue; 2 wrong command,
configuration or data; 1 anything else.
"""

import os
import sys
from collections.abc import Mapping, Sequence

from vqdist.config.command_line import parse_options
from vqdist.config.command_options import TrainOptions
from vqdist.config.loading import load_config
from vqdist.config.model_config import MODEL_CONFIGS, ModelConfig
from vqdist.distributed.stop_requests import StopRequest, listen_for_stops
from vqdist.foundation.command import run_command
from vqdist.foundation.errors import ConfigError


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    with listen_for_stops() as stop:  # before torch is imported: a signal at any time ends with a checkpoint
        return train(argv, stop)


def train(argv: Sequence[str], stop: StopRequest, models: Mapping[str, type[ModelConfig]] = MODEL_CONFIGS) -> int:
    """Check the configuration, then train; return the exit code."""
    parsed = parse_options("train", __doc__ or "", TrainOptions, argv, takes_config=True)
    if parsed.options is None:
        raise ConfigError(parsed.problems)
    config, problems = load_config(parsed.options.config, parsed.keys, models)
    problems = parsed.problems + problems
    if config is None:
        raise ConfigError(problems)

    # Torch is imported from here on, so that --help returns at once.
    from vqdist.distributed.process_group import end_ranks
    from vqdist.tracking.tracker import resolve_mode
    from vqdist.training.build import resolve
    from vqdist.training.checks import find_problems
    from vqdist.training.run import run

    mode = config.tracking.mode
    try:
        mode = resolve_mode(dict(parsed.keys).get("tracking.mode") and mode, os.environ, mode)
    except ConfigError as error:
        problems += error.problems
    config = resolve(config.replace("tracking", mode=mode))
    problems += find_problems(config)
    if problems:
        raise ConfigError(problems)
    try:
        return run(config, stop)
    finally:
        end_ranks()


if __name__ == "__main__":
    sys.exit(run_command(main))
