"""Measure the speed of vqdist and of other packages on this machine."""

import importlib
import sys
from collections.abc import Sequence
from typing import Any

from vqdist.config.command_line import parse_options
from vqdist.config.command_options import BENCH_PARTS, BenchOptions
from vqdist.foundation.atomic_files import write_access_problems
from vqdist.foundation.command import emit, run_command
from vqdist.foundation.errors import ConfigError
from vqdist.foundation.progress import count_noun, print_message

DESCRIPTION = f"""\
Measure ours and the peers in turn: medians of at least 5 repetitions. A table goes to stderr, JSON to stdout.

Parts: {" ".join(BENCH_PARTS)}; by default all of them, some minutes on two cores. The part quality must be named: it
trains the peers on the slices of a VQ-VAE's run for as long as the run took. The peers are installed by
`pip install vqdist[bench]`; a case whose peer is missing is left out with a message. A GPU is used if there is one."""


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    parsed = parse_options("bench", DESCRIPTION, BenchOptions, argv)
    options, problems = parsed.options, parsed.problems
    if options is not None and options.out is not None:
        problems = problems + write_access_problems("--out", options.out, folder=False)
    if options is None or problems:
        raise ConfigError(problems)
    parts = tuple(dict.fromkeys(options.parts or BENCH_PARTS))
    print_message(f"bench: {count_noun(len(parts), 'part')}: {', '.join(parts)}")
    # Torch is imported from here on, so that --help returns at once.
    import torch

    from vqdist.benchmarks.measure import Bench, Result, choose_device, describe_machine

    device = choose_device()
    machine = describe_machine(device)
    print_message(
        f"bench: {machine['gpu'] or machine['cpu']}, {count_noun(machine['cores'], 'core')}, load {machine['load']}"
    )
    bench = Bench(device, options.repeats, options.small, options.run, options.data)
    results: list[Result] = []
    for part in parts:
        print_message(f"bench: {part} ...")
        torch.manual_seed(0)
        found = importlib.import_module(f"vqdist.benchmarks.{part}").run(bench)
        print_message(format_table([result.to_json() for result in found]))
        results += found
    emit({"machine": machine, "results": [result.to_json() for result in results]}, options.out)
    return 0


def format_table(results: Sequence[dict[str, Any]]) -> str:
    """Return the results as lines of case, ours, peer, theirs and ratio."""
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
    """Return a number with three significant digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    sys.exit(run_command(main))
