"""Evaluate a trained model on a split: accelerate launch -m vqdist.evaluate --run RUN --data DIR [--split test]."""

import sys
from collections.abc import Sequence

from vqdist.config.command_line import parse_options
from vqdist.config.command_options import EvaluateOptions
from vqdist.foundation.command import emit, explaining_interrupt, run_command
from vqdist.foundation.errors import ConfigError, collect
from vqdist.foundation.model_names import show_model_name
from vqdist.foundation.progress import print_message


@explaining_interrupt("no report was written; run the same command again")
def main(argv: Sequence[str]) -> None:
    """Run the command. Must be called by all ranks."""
    description = "Measure the reconstructions of a VQ-VAE, or the bits per code of a PixelCNN, on a split."
    parsed = parse_options("evaluate", description, EvaluateOptions, argv)
    options = parsed.options
    if options is None or options.find_conflicts():
        raise ConfigError(parsed.problems)

    sources = [options.run, options.pictures or options.data, options.samples]
    print_message(f"evaluate: loading {', '.join(show_model_name(path) for path in sources if path is not None)} ...")
    from vqdist.data.orientation import shows_pictures
    from vqdist.distributed.process_group import process_group
    from vqdist.evaluation.evaluate import evaluate_model, evaluate_pictures
    from vqdist.evaluation.inputs import check_picture_inputs, read_inputs
    from vqdist.evaluation.report_table import describe_report
    from vqdist.evaluation.wandb_logging import publish

    with process_group(options.device) as ranks:
        if options.pictures is None:
            (inputs,) = collect(lambda: read_inputs(options, ranks), problems=parsed.problems)
            report, shows_brains = evaluate_model(inputs, ranks), not shows_pictures(inputs.dataset.manifest)
        else:
            collect(lambda: check_picture_inputs(options, ranks), problems=parsed.problems)
            report = evaluate_pictures(options, ranks)
            shows_brains = any(report["metrics"].get(name) is not None for name in ("ssim_brain", "psnr_brain"))
        if ranks.is_main:
            print_message(describe_report(report, shows_brains=shows_brains))
            emit(report, options.out)
        if ranks.is_main and options.pictures is None:
            publish(options.run, report, samples=options.samples)


if __name__ == "__main__":
    sys.exit(run_command(main))
