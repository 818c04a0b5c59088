"""Measure what vqdist reaches on this machine, ours and the peers' in turn: medians of at least 5.

    python -m vqdist.bench [PART ...] [--out FILE]
    python -m vqdist.bench quality --run RUN --data DIR [--out FILE]

Parts: quantizer step sampler loader resume start checkpoint ddp; without any, all of these: some minutes on two
cores. One more must be named: quality, what peers reach on the slices of a VQ-VAE's run when each trains for as
long as the run did. The peers come with `pip install vqdist[bench]`; where one is missing its case is left out,
with a line that says so. A table goes to stderr, JSON to stdout. Where there is a GPU the models are measured on it.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Any

from vqdist.foundation.atomic_files import write_access_problems
from vqdist.foundation.command import Parser, boolean, emit, optional, path, print_from_any_rank, run_command, within
from vqdist.foundation.errors import Problem, collect

PARTS = ("quantizer", "step", "sampler", "loader", "resume", "start", "checkpoint", "ddp")
QUALITY = "quality"
FEWEST_REPEATS = 5


def main(argv: Sequence[str]) -> int:
    """Run the command; see the module's docstring."""
    args = build_parser().parse_args(argv)
    collect(problems=args.problems + _find_problems(args))
    # Torch is imported from here on, so that --help answers at once.
    import torch

    from vqdist.benchmarks.measure import Bench, Result, choose_device, describe_machine

    device = choose_device()
    machine = describe_machine(device)
    print_from_any_rank(f"bench: {machine['gpu'] or machine['cpu']}, {machine['cores']} cores, load {machine['load']}")
    bench = Bench(device, args.repeats, args.small, args.run, args.data)
    results: list[Result] = []
    for part in dict.fromkeys(args.parts or PARTS):
        print_from_any_rank(f"bench: {part} ...")
        torch.manual_seed(0)
        found = importlib.import_module(f"vqdist.benchmarks.{part}").run(bench)
        print_from_any_rank(format_table([result.to_json() for result in found]))
        results += found
    report = {"machine": machine, "results": [result.to_json() for result in results]}
    emit(report, args.out)
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    parser = Parser("vqdist.bench", __doc__ or "")
    parser.add_argument(
        "parts",
        metavar="PART",
        nargs="*",
        choices=[*PARTS, QUALITY, []],
        help=f"one of {', '.join(PARTS)} (text, default: all of these), or {QUALITY}",
    )
    parser.option("--run", optional(path), help=f"for {QUALITY}: the run of a VQ-VAE")
    parser.option("--data", optional(path), help=f"for {QUALITY}: the data set of images that it was trained on")
    parser.option("--out", optional(path), help="file for the JSON, too")
    many = f"repetitions of each measurement, {FEWEST_REPEATS} or more; the median counts"
    parser.option("--repeats", within(int, 1), default=FEWEST_REPEATS, help=many)
    parser.option("--small", boolean, default=False, help="tiny sizes, to see that all runs; the figures mean nothing")
    return parser


def _find_problems(args: argparse.Namespace) -> list[Problem]:
    problems = [] if args.out is None else write_access_problems("--out", args.out, folder=False)
    for flag, value in (("--run", args.run), ("--data", args.data)):
        if value is not None and QUALITY not in args.parts:
            problems.append(Problem(flag, str(value), f"only with the part {QUALITY}"))
    if QUALITY in args.parts and (args.run is None or args.data is None):
        missing = " and ".join(flag for flag, value in (("--run", args.run), ("--data", args.data)) if value is None)
        problems.append(
            Problem(QUALITY, f"no {missing}", "the run of a VQ-VAE and the data set that it was trained on")
        )
    if args.repeats < FEWEST_REPEATS and not args.small:
        expected = f"at least {FEWEST_REPEATS}, or --small true"
        problems.append(Problem("--repeats", str(args.repeats), expected))
    return problems


def format_table(results: Sequence[dict[str, Any]]) -> str:
    """Return the results as lines for people: case, ours, peer, theirs, ratio."""
    lines = []
    for case in dict.fromkeys(result["case"] for result in results):
        lines.append(f"  {case}")
        for result in (result for result in results if result["case"] == case):
            unit = result["unit"]
            line = f"    {format_figure(result['ours'])} {unit}"
            if result["peer"] is not None:
                line += f"   {result['peer']}: {format_figure(result['theirs'])} {unit}   ratio {result['ratio']:.2f}"
            lines.append(line)
    return "\n".join(lines)


def format_figure(value: float) -> str:
    """Return a figure with three digits that count."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    sys.exit(run_command(main))
