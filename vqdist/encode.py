"""Encode the images of a dataset to code maps: accelerate launch -m vqdist.encode --run RUN --data DIR --out DIR."""

import sys
from collections.abc import Sequence

from vqdist.config.command_line import parse_options
from vqdist.config.command_options import EncodeOptions
from vqdist.foundation.command import emit, run_command
from vqdist.foundation.errors import ConfigError


def main(argv: Sequence[str]) -> None:
    """Run the command. Collective: all ranks."""
    parsed = parse_options("encode", "Encode every slice of a dataset to a map of codes.", EncodeOptions, argv)
    if parsed.options is None:
        raise ConfigError(parsed.problems)

    from vqdist.distributed.process_group import end_ranks, start_ranks
    from vqdist.inference.encoding import encode

    ranks = start_ranks(parsed.options.device)
    try:
        samples = encode(parsed.options, ranks, parsed.problems)
        if ranks.is_main:
            emit({"out": str(parsed.options.out), "samples": samples})
    finally:
        end_ranks()


if __name__ == "__main__":
    sys.exit(run_command(main))
