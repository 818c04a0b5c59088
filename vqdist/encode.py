"""Turn images into maps of codes: accelerate launch -m vqdist.encode --run RUN --data DIR --out DIR."""

import sys
from collections.abc import Sequence
from pathlib import Path

from vqdist.entry import Parser, emit, run_command


def build_parser() -> Parser:
    """Return the command's parser."""
    parser = Parser("vqdist.encode", "Encode every slice of a data set into a map of codes.")
    parser.option("--run", Path, required=True, help="run of the VQ-VAE, or its saved model's folder")
    parser.option("--data", Path, required=True, help="data set of images")
    parser.option("--out", Path, required=True, help="folder of the data set of codes; new or empty")
    parser.add_argument("--overwrite", action="store_true", help="replace what lies in --out (default: false)")
    parser.option("--batch-size", int, default=16, unit="samples", help="slices per forward")
    parser.option("--device", str, default="auto", choices=["auto", "cpu", "cuda", "mps"], help="where to compute")
    return parser


def main(argv: Sequence[str]) -> None:
    """Run the command. Collective: all ranks."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.batch_size < 1:
        parser.error(f"--batch-size: found {args.batch_size}, expected at least 1")

    from vqdist.inference.encoding import encode
    from vqdist.training.ranks import end_ranks, start_ranks

    ranks = start_ranks(args.device)
    try:
        samples = encode(args, ranks)
        if ranks.is_main:
            emit({"out": str(args.out), "samples": samples})
    finally:
        end_ranks()


if __name__ == "__main__":
    sys.exit(run_command(main))
