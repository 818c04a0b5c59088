"""Sample new slices: accelerate launch -m vqdist.sample --prior RUN --num 64 --out DIR [--label N] [--slice N]."""

import sys
from collections.abc import Sequence

from vqdist.config.command_line import parse_options
from vqdist.config.command_options import SampleOptions
from vqdist.foundation.command import emit, run_command
from vqdist.foundation.errors import ConfigError
from vqdist.foundation.progress import print_message


def main(argv: Sequence[str]) -> None:
    """Run the command. Collective: all ranks."""
    description = "Sample maps of codes from a PixelCNN and decode them to new slices."
    parsed = parse_options("sample", description, SampleOptions, argv)
    if parsed.options is None:
        raise ConfigError(parsed.problems)

    from vqdist.distributed.process_group import end_ranks, start_ranks
    from vqdist.inference.sampling import sample

    ranks = start_ranks(parsed.options.device)
    try:
        sample(parsed.options, ranks, parsed.problems)
        if ranks.is_main:
            print_message(f"look at {parsed.options.out / 'grid.png'}")
            emit({"out": str(parsed.options.out), "num": parsed.options.num})
    finally:
        end_ranks()


if __name__ == "__main__":
    sys.exit(run_command(main))
