"""Sample new slices: accelerate launch -m vqdist.sample --prior RUN --num 64 --out DIR [--label N] [--slice N]."""

import sys
from collections.abc import Sequence

from vqdist.config.command_line import parse_options
from vqdist.config.command_options import SampleOptions
from vqdist.foundation.command import NOTHING_WRITTEN, emit, explaining_interrupt, run_command
from vqdist.foundation.errors import ConfigError, collect
from vqdist.foundation.progress import count_noun, print_message


@explaining_interrupt(NOTHING_WRITTEN)
def main(argv: Sequence[str]) -> None:
    """Run the command. Must be called by all ranks."""
    description = "Sample code maps from a PixelCNN and decode them to new slices."
    parsed = parse_options("sample", description, SampleOptions, argv)
    options = parsed.options
    if options is None:
        raise ConfigError(parsed.problems)

    from vqdist.distributed.process_group import process_group
    from vqdist.inference.sampling import prepare_sampling
    from vqdist.inference.volume_sampling import prepare_volume_sampling

    with process_group(options.device) as ranks:
        prepare = prepare_sampling if options.volumes is None else prepare_volume_sampling
        (job,) = collect(lambda: prepare(options, ranks), problems=parsed.problems)
        job.run(ranks)
        if ranks.is_main:
            report(options)


def report(options: SampleOptions) -> None:
    """Print what was written, and the JSON result."""
    if options.volumes is None:
        print_message(f"wrote {count_noun(options.num, 'slice')}; look at {options.out / 'grid.png'}")
        emit({"out": str(options.out), "num": options.num})
    else:
        print_message(f"wrote {count_noun(options.volumes, 'volume')}; look at {options.out / 'volume-00000.png'}")
        emit({"out": str(options.out), "volumes": options.volumes})


if __name__ == "__main__":
    sys.exit(run_command(main))
