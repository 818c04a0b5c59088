"""Turn images into maps of codes: accelerate launch -m vqdist.encode --run RUN --data DIR --out DIR."""

import sys
from collections.abc import Sequence

from vqdist.foundation.command import Parser, emit, path, run_command, within
from vqdist.foundation.errors import Problem


def build_parser() -> Parser:
    """Return the command's parser."""
    parser = Parser("vqdist.encode", "Encode every slice of a data set into a map of codes.")
    parser.option("--run", path, required=True, help="run of the VQ-VAE, or its saved model's folder")
    parser.option("--data", path, required=True, help="data set of images")
    parser.option("--out", path, required=True, help="folder of the data set of codes; new or empty")
    parser.switch("--overwrite", help="replace what lies in --out")
    views = (
        "maps of each slice of train: the slice itself, then mirrored and moved ones, for a prior that learns by heart"
    )
    parser.option("--views", within(int, 1), default=1, unit="maps", help=views)
    mirrored = "what changes places in every second such map; rows: left and right of an OASIS slice"
    parser.option("--mirror", str, default="rows", choices=["none", "rows", "columns"], help=mirrored)
    moved = "how far such maps move their slice at most, up, down, left and right; 0 only mirrors"
    parser.option("--shift", within(int, 0), default=0, unit="pixels", help=moved)
    parser.option("--batch-size", within(int, 1), default=16, unit="samples", help="slices per forward")
    parser.option("--device", str, default="auto", choices=["auto", "cpu", "cuda", "mps"], help="where to compute")
    return parser


def main(argv: Sequence[str]) -> None:
    """Run the command. Collective: all ranks."""
    args = build_parser().parse_args(argv)
    different = 1 if args.mirror == "none" else 2
    if args.views > different and not args.shift:
        expected = f"at most {different}, the slice{' and its mirror image' * (different - 1)}, or a --shift above 0"
        args.problems.append(Problem("--views", str(args.views), expected))
    if args.shift and args.views == 1:
        args.problems.append(Problem("--shift", f"{args.shift} with one view of each slice", "also --views, above 1"))

    from vqdist.distributed.process_group import destroy_process_group, init_process_group
    from vqdist.inference.encoding import encode

    ranks = init_process_group(args.device)
    try:
        samples = encode(args, ranks)
        if ranks.is_main:
            emit({"out": str(args.out), "samples": samples})
    finally:
        destroy_process_group()


if __name__ == "__main__":
    sys.exit(run_command(main))
