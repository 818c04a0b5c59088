"""Draw new slices: accelerate launch -m vqdist.sample --prior RUN --num 64 --out DIR [--label N] [--slice N]."""

import sys
from collections.abc import Sequence

from vqdist.foundation.command import Parser, emit, optional, path, print_from_any_rank, run_command, within


def build_parser() -> Parser:
    """Return the command's parser."""
    parser = Parser("vqdist.sample", "Draw maps of codes from a PixelCNN and decode them into new slices.")
    parser.option("--prior", path, required=True, help="run of the PixelCNN, or its saved model's folder")
    parser.option("--num", within(int, 1), default=64, unit="slices", help="slices to draw")
    parser.option("--out", path, required=True, help="folder for the PNGs, grid.png, codes.npy and samples.json")
    parser.option("--vqvae", optional(path), help="run of the VQ-VAE; null: the one that lies in the prior's model/")
    parser.option("--temperature", within(float, 0), default=1.0, help="divides the logits; 0 takes the likeliest code")
    parser.option(
        "--top-k", within(int, 0), default=0, unit="codes", help="draw among the likeliest codes only; 0: all"
    )
    parser.option("--seed", int, default=0, help="seed of the noise and of conditions that are not given")
    parser.option("--label", optional(int), help="class of all slices; null: drawn as in train")
    parser.option("--slice", optional(int), help="slice number of all slices; null: drawn as in train")
    parser.option("--device", str, default="auto", choices=["auto", "cpu", "cuda", "mps"], help="where to compute")
    return parser


def main(argv: Sequence[str]) -> None:
    """Run the command. Collective: all ranks."""
    args = build_parser().parse_args(argv)

    from vqdist.distributed.process_group import destroy_process_group, init_process_group
    from vqdist.inference.sampling import sample

    ranks = init_process_group(args.device)
    try:
        sample(args, ranks)
        if ranks.is_main:
            print_from_any_rank(f"look at {args.out / 'grid.png'}")
            emit({"out": str(args.out), "num": args.num})
    finally:
        destroy_process_group()


if __name__ == "__main__":
    sys.exit(run_command(main))
