"""Measure a trained model on a split: accelerate launch -m vqdist.evaluate --run RUN --data DIR [--split test]."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vqdist.entry import Parser, emit, optional, run_command

AUTO = Path("auto")


def build_parser() -> Parser:
    """Return the command's parser."""
    parser = Parser("vqdist.evaluate", "Measure a VQ-VAE's reconstructions or a PixelCNN's bits per code on a split.")
    parser.option("--run", Path, required=True, help="the run, or a saved model's folder")
    parser.option("--data", Path, help="data set: of images for a VQ-VAE, of codes for a PixelCNN")
    parser.option("--split", str, default="test", help="split to measure: train, validate or test")
    parser.option("--samples", Path, help="folder of samples to hold against the real slices of train and the split")
    parser.option("--images", Path, help="with a PixelCNN's --samples: the real slices; null: those of its codes")
    parser.option("--pictures", Path, help="your own pictures to reconstruct, a folder or a file, instead of --data")
    parser.option(
        "--figures", optional(Path), default=AUTO, help="folder for figures; auto: RUN/figures; null: none are drawn"
    )
    parser.option("--out", Path, help="file for the JSON report, beside stdout")
    parser.option(
        "--batch-size", int, default=16, unit="samples", help="samples per forward; the report does not depend on it"
    )
    parser.option("--device", str, default="auto", choices=["auto", "cpu", "cuda", "mps"], help="where to compute")
    return parser


def main(argv: Sequence[str]) -> None:
    """Run the command. Collective: all ranks."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if (args.data is None) == (args.pictures is None):
        parser.error("exactly one of --data and --pictures")
    if args.batch_size < 1:
        parser.error(f"--batch-size: found {args.batch_size}, expected at least 1")
    if args.figures == AUTO:
        args.figures = args.run / "figures" if (args.run / "config.yaml").is_file() else None
    if args.pictures is not None and args.figures is None:
        parser.error("--pictures needs --figures, the folder for the reconstructions")

    from vqdist.evaluation.appraisal import appraise, show_pictures
    from vqdist.evaluation.publication import publish
    from vqdist.training.ranks import end_ranks, start_ranks

    ranks = start_ranks(args.device)
    try:
        report = appraise(args, ranks) if args.pictures is None else show_pictures(args, ranks)
        if ranks.is_main:
            write_report(report, args.out)
        if ranks.is_main and args.pictures is None:
            publish(args.run, report)
    finally:
        end_ranks()


def write_report(report: dict[str, Any], out: Path | None) -> None:
    """Write the report to stdout and, where asked, to a file."""
    emit(report)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(run_command(main))
