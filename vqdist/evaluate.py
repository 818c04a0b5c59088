"""Evaluate a trained model on a split: accelerate launch -m vqdist.evaluate --run RUN --data DIR [--split test]."""

import sys
from collections.abc import Sequence

from vqdist.config.command_line import parse_options
from vqdist.config.command_options import EvaluateOptions
from vqdist.foundation.command import emit, run_command
from vqdist.foundation.errors import ConfigError
from vqdist.foundation.progress import print_message


def main(argv: Sequence[str]) -> None:
    """Run the command. Collective: all ranks."""
    description = "Evaluate the reconstructions of a VQ-VAE, or the bits per code of a PixelCNN, on a split."
    parsed = parse_options("evaluate", description, EvaluateOptions, argv)
    options = parsed.options
    if options is None or options.find_conflicts():
        raise ConfigError(parsed.problems)

    from vqdist.distributed.process_group import end_ranks, start_ranks
    from vqdist.evaluation.run import appraise, show_pictures
    from vqdist.evaluation.table import describe_report
    from vqdist.evaluation.wandb_report import publish

    ranks = start_ranks(options.device)
    try:
        evaluate = appraise if options.pictures is None else show_pictures
        report = evaluate(options, ranks, parsed.problems)
        if ranks.is_main:
            print_message(describe_report(report))
            emit(report, options.out)
        if ranks.is_main and options.pictures is None:
            publish(options.run, report)
    finally:
        end_ranks()


if __name__ == "__main__":
    sys.exit(run_command(main))
