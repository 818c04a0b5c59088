"""Measure a trained model on a split: accelerate launch -m vqdist.evaluate --run RUN --data DIR [--split test]."""

import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vqdist.entry import Parser, emit, run_command


def build_parser() -> Parser:
    """Return the command's parser."""
    parser = Parser("vqdist.evaluate", "Measure a VQ-VAE's reconstructions or a PixelCNN's bits per code on a split.")
    parser.option("--run", Path, required=True, help="the run, or a saved model's folder")
    parser.option("--data", Path, help="data set: of images for a VQ-VAE, of codes for a PixelCNN")
    parser.option("--split", str, default="test", help="split to measure: train, validate or test")
    parser.option("--pictures", Path, help="your own pictures to reconstruct, a folder or a file, instead of --data")
    parser.option("--figures", Path, help="folder for reconstructions and diagrams; null: none are drawn")
    parser.option("--out", Path, help="file for the JSON report, beside stdout")
    parser.option("--batch-size", int, default=16, unit="samples", help="samples per forward; does not change figures")
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
    if args.pictures is not None and args.figures is None:
        parser.error("--pictures needs --figures, the folder for the reconstructions")

    from vqdist.training.ranks import end_ranks, start_ranks

    ranks = start_ranks(args.device)
    try:
        report = evaluate(args, ranks)
        if ranks.is_main:
            write_report(report, args.out)
    finally:
        end_ranks()


def evaluate(args: Namespace, ranks: Any) -> dict[str, Any]:
    """Return the report of what is asked. Collective: all ranks."""
    from vqdist.data.manifest import load_manifest
    from vqdist.evaluation import evaluate_pixelcnn, evaluate_vqvae
    from vqdist.models.artifact import find_model, fingerprint, load_model
    from vqdist.models.vqvae import VQVAE
    from vqdist.passes import gather_outcomes, main_only
    from vqdist.pictures import reconstruct_pictures

    if args.pictures is not None:
        work = main_only(
            ranks, lambda: reconstruct_pictures(args.run, args.pictures, args.figures, device=ranks.device)
        )
        return gather_outcomes(ranks, work)[0] or {}
    model = load_model(args.run)
    manifest = load_manifest(args.data)
    reading: dict[str, Any] = {"split": args.split, "ranks": ranks, "batch_size": args.batch_size}
    if isinstance(model, VQVAE):
        return evaluate_vqvae(model, args.data, manifest, **reading).report
    origin = fingerprint(find_model(args.run) / "vqvae")
    return evaluate_pixelcnn(model, args.data, manifest, vqvae_fingerprint=origin, **reading).report


def write_report(report: dict[str, Any], out: Path | None) -> None:
    """Write the report to stdout and, where asked, to a file."""
    emit(report)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(run_command(main))
