"""Measure a trained model on a split: accelerate launch -m vqdist.evaluate --run RUN --data DIR [--split test]."""

import json
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqdist.entry import Parser, emit, optional, run_command

if TYPE_CHECKING:
    from vqdist.models.vqvae import VQVAE
    from vqdist.training.ranks import Ranks

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
    if args.figures == AUTO:
        args.figures = args.run / "figures" if (args.run / "config.yaml").is_file() else None
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


def evaluate(args: Namespace, ranks: "Ranks") -> dict[str, Any]:
    """Return the report of what is asked, and draw its figures. Collective: all ranks."""
    from vqdist.passes import gather_outcomes, main_only
    from vqdist.pictures import reconstruct_pictures

    if args.pictures is not None:
        work = main_only(
            ranks, lambda: reconstruct_pictures(args.run, args.pictures, args.figures, device=ranks.device)
        )
        return gather_outcomes(ranks, work)[0] or {}
    report, draw = measure(args, ranks)
    if args.figures is not None:
        figures = gather_outcomes(ranks, main_only(ranks, draw))[0]
        report["figures"] = [str(path) for path in figures or []]
    return report


def measure(args: Namespace, ranks: "Ranks") -> tuple[dict[str, Any], Callable[[], list[Path]]]:
    """Return the report, and the function that draws its figures. Collective: all ranks."""
    from vqdist.data.manifest import load_manifest
    from vqdist.evaluation import evaluate_pixelcnn, evaluate_vqvae
    from vqdist.illustration import illustrate_run, illustrate_vqvae
    from vqdist.models.artifact import find_model, fingerprint, load_model, load_vqvae_of
    from vqdist.models.vqvae import VQVAE

    model, manifest = load_model(args.run), load_manifest(args.data)
    reading: dict[str, Any] = {"split": args.split, "ranks": ranks, "batch_size": args.batch_size}
    drawings = [lambda: illustrate_run(args.run, args.figures)]
    if isinstance(model, VQVAE):
        vqvae, images = model, args.data
        evaluation = evaluate_vqvae(model, args.data, manifest, **reading)
        drawings.append(
            lambda: illustrate_vqvae(model, evaluation, args.data, manifest, split=args.split, out=args.figures)
        )
    else:
        vqvae, images = load_vqvae_of(args.run), args.images or manifest.source.get("images")
        origin = fingerprint(find_model(args.run) / "vqvae")
        evaluation = evaluate_pixelcnn(model, args.data, manifest, vqvae_fingerprint=origin, **reading)
    report = evaluation.report
    if args.samples is not None:
        report["realism"], draw_samples = measure_samples(args, ranks, vqvae, images)
        drawings.append(draw_samples)
    return report, lambda: [path for draw in drawings for path in draw()]


def measure_samples(
    args: Namespace, ranks: "Ranks", vqvae: "VQVAE", images: Path | None
) -> tuple[dict[str, Any], Callable[[], list[Path]]]:
    """Return the report on a folder of samples, and the function that draws its figures. Collective: all ranks."""
    from vqdist.data.manifest import load_manifest
    from vqdist.errors import UserError
    from vqdist.evaluation import require_kind
    from vqdist.illustration import illustrate_samples
    from vqdist.realism.report import judge_samples
    from vqdist.realism.samples import SampleFolder

    if images is None:
        raise UserError.of("--images", "none", "the data set of the real slices that the codes were made from")
    manifest = load_manifest(images)
    require_kind(images, manifest, "images", "samples are held against real slices")
    folder = SampleFolder.open(args.samples, manifest)
    reading: dict[str, Any] = {"split": args.split, "ranks": ranks, "batch_size": args.batch_size}
    realism = judge_samples(folder, images, vqvae=vqvae, **reading)
    return realism.report, lambda: illustrate_samples(realism, folder, images, split=args.split, out=args.figures)


def write_report(report: dict[str, Any], out: Path | None) -> None:
    """Write the report to stdout and, where asked, to a file."""
    emit(report)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(run_command(main))
