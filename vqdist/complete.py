"""Complete slices: accelerate launch -m vqdist.complete --prior RUN --pictures DIR --mask FILE --out DIR."""

import sys
from collections.abc import Sequence

from vqdist.config.command_line import parse_options
from vqdist.config.slice_options import CompleteOptions
from vqdist.foundation.command import NOTHING_WRITTEN, emit, explaining_interrupt, run_command
from vqdist.foundation.errors import ConfigError, collect
from vqdist.foundation.progress import print_message

DESCRIPTION = """\
Fill in regions of slices with what a PixelCNN considers likely; all other pixels stay.

Example:
  vqdist complete --prior runs/mine-prior --pictures slices --mask mask.png --out completed"""


@explaining_interrupt(NOTHING_WRITTEN)
def main(argv: Sequence[str]) -> None:
    """Run the command. Must be called by all ranks."""
    parsed = parse_options("complete", DESCRIPTION, CompleteOptions, argv)
    options = parsed.options
    if options is None or options.find_conflicts():
        raise ConfigError(parsed.problems)

    from vqdist.distributed.process_group import process_group
    from vqdist.inference.completion import prepare_completion

    with process_group(options.device) as ranks:
        (job,) = collect(lambda: prepare_completion(options, ranks), problems=parsed.problems)
        count = job.run(ranks)
        if ranks.is_main:
            means = f"; each completion is the mean of {options.average} draws" if options.average > 1 else ""
            print_message(f"look at {options.out / 'grid.png'}{means}")
            emit({"out": str(options.out), "slices": count, "num": options.num})


if __name__ == "__main__":
    sys.exit(run_command(main))
