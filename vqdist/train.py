"""Train a VQ-VAE, or a PixelCNN over its codes.

    accelerate launch -m vqdist.train [--config FILE] [--section.key VALUE ...]

Without --config it is the demo: a VQ-VAE on slices that the package makes up under run.dir. Without a launcher
it runs on one device. Exit codes: 0 finished; 75 stopped with a checkpoint, run again to go on; 2 something to
mend in command, configuration or data; 1 anything else.
"""

import os
import sys
from collections.abc import Sequence

from vqdist.config.command_line import build_help, parse_arguments
from vqdist.config.loading import load_config
from vqdist.distributed.stop_requests import StopRequest, handling_stop_requests
from vqdist.foundation.command import run_command
from vqdist.foundation.errors import ConfigError


def main(argv: Sequence[str]) -> int:
    """Run the command; see the module's docstring."""
    if any(word in {"-h", "--help"} for word in argv):
        sys.stdout.write(build_help("vqdist.train", __doc__ or ""))
        return 0
    with handling_stop_requests() as stop:  # before torch is imported, which takes seconds
        return train(argv, stop)


def train(argv: Sequence[str], stop: StopRequest) -> int:
    """Check all that was asked for, then train; return the exit code."""
    path, flags, problems = parse_arguments(argv)
    config, more = load_config(path, flags)
    problems += more
    if config is None:
        raise ConfigError(problems)

    # Torch is imported from here on, so that --help answers at once.
    from vqdist.distributed.process_group import destroy_process_group
    from vqdist.tracking.tracker import resolve_mode
    from vqdist.training.build import resolve
    from vqdist.training.checks import find_problems
    from vqdist.training.run import run

    mode = config.tracking.mode
    try:
        mode = resolve_mode(mode if "tracking.mode" in dict(flags) else None, os.environ, mode)
    except ConfigError as error:
        problems += error.problems
    config = resolve(config.replace("tracking", mode=mode))
    problems += find_problems(config)
    if problems:
        raise ConfigError(problems)
    try:
        return run(config, stop)
    finally:
        destroy_process_group()


if __name__ == "__main__":
    sys.exit(run_command(main))
