"""Encode the images of a dataset to code maps: accelerate launch -m vqdist.encode --run RUN --data DIR --out DIR."""

import sys
from collections.abc import Sequence

from vqdist.config.command_line import parse_options
from vqdist.config.command_options import EncodeOptions
from vqdist.foundation.command import NOTHING_WRITTEN, emit, explaining_interrupt, run_command
from vqdist.foundation.errors import ConfigError, collect
from vqdist.foundation.progress import count_noun, print_message


@explaining_interrupt(NOTHING_WRITTEN)
def main(argv: Sequence[str]) -> None:
    """Run the command. Must be called by all ranks."""
    parsed = parse_options("encode", "Encode every slice of a dataset to a map of codes.", EncodeOptions, argv)
    options = parsed.options
    if options is None:
        raise ConfigError(parsed.problems)

    from vqdist.data.shards.manifest import load_manifest
    from vqdist.distributed.process_group import process_group
    from vqdist.inference.encoding import describe_attributes, prepare_encoding, propose_training

    with process_group(options.device) as ranks:
        (job,) = collect(lambda: prepare_encoding(options, ranks), problems=parsed.problems)
        samples = job.run(ranks)
        if ranks.is_main:
            print_message(f"wrote {count_noun(samples, 'code map')} to {options.out}")
            print_message(f"next      {propose_training(job)}")
            if attributes := describe_attributes(load_manifest(options.out)):
                print_message(f"          {attributes}")
            emit({"out": str(options.out), "samples": samples})


if __name__ == "__main__":
    sys.exit(run_command(main))
