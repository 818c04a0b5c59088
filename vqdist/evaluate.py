"""Measure a trained model on a split: accelerate launch -m vqdist.evaluate --run RUN --data DIR [--split test]."""

import sys
from collections.abc import Sequence
from pathlib import Path

from vqdist.foundation.command import Parser, emit, optional, path, print_from_any_rank, run_command, within

AUTO = Path("auto")


def build_parser() -> Parser:
    """Return the command's parser."""
    parser = Parser("vqdist.evaluate", "Measure a VQ-VAE's reconstructions or a PixelCNN's bits per code on a split.")
    parser.option("--run", path, required=True, help="the run, or a saved model's folder")
    parser.option("--data", optional(path), help="data set: of images for a VQ-VAE, of codes for a PixelCNN")
    parser.option("--split", str, default="test", help="split to measure: train, validate or test")
    parser.option(
        "--samples", optional(path), help="folder of samples to hold against the real slices of train and the split"
    )
    parser.option(
        "--images", optional(path), help="with a PixelCNN's --samples: the real slices; null: those of its codes"
    )
    parser.option(
        "--beside", path, nargs="+", default=[], help="with a VQ-VAE: more runs to draw its rate and distortion beside"
    )
    parser.option(
        "--pictures", optional(path), help="your own pictures to reconstruct, a folder or a file, instead of --data"
    )
    parser.option(
        "--figures", optional(path), default=AUTO, help="folder for figures; auto: RUN/figures; null: none are drawn"
    )
    parser.option("--out", optional(path), help="file for the JSON report, beside stdout")
    parser.option(
        "--batch-size",
        within(int, 1),
        default=16,
        unit="samples",
        help="samples per forward; the report does not depend on it",
    )
    parser.option("--device", str, default="auto", choices=["auto", "cpu", "cuda", "mps"], help="where to compute")
    return parser


def main(argv: Sequence[str]) -> None:
    """Run the command. Collective: all ranks."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if (args.data is None) == (args.pictures is None):
        found = "neither" if args.data is None else "both"
        parser.error(f"--data and --pictures: found {found}; expected one of them")
    if args.pictures is not None and args.beside:
        parser.error("--beside: found runs beside --pictures; expected --data")
    if args.figures == AUTO:
        args.figures = args.run / "figures" if (args.run / "config.yaml").is_file() else None
    if args.pictures is not None and args.figures is None:
        parser.error("--figures: found null beside --pictures; expected the folder for the reconstructions")

    from vqdist.distributed.process_group import destroy_process_group, init_process_group
    from vqdist.evaluation.run import appraise, show_pictures
    from vqdist.evaluation.table import describe_report
    from vqdist.tracking.publication import publish

    ranks = init_process_group(args.device)
    try:
        report = appraise(args, ranks) if args.pictures is None else show_pictures(args, ranks)
        if ranks.is_main:
            print_from_any_rank(describe_report(report))
            emit(report, args.out)
        if ranks.is_main and args.pictures is None:
            publish(args.run, report)
    finally:
        destroy_process_group()


if __name__ == "__main__":
    sys.exit(run_command(main))
