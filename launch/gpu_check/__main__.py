"""Check on a GPU what tests on CPUs cannot; launch/gpu_check.sh describes the options.

Trainings run in processes of their own, several at once; measurements run alone, in this process. A part that fails is
a failed check, and the others go on.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from checks import Checker, format_row, print_line
from commands import prepare, start_server


def describe_device(device: str) -> str:
    """Return the device's name and the versions that matter."""
    import torch

    from vqdist.benchmarks.measure import describe_machine

    machine = describe_machine(torch.device(device))
    return f"{machine['gpu'] or machine['cpu']}, {machine['cores']} cores, torch {torch.__version__}"


def list_parts() -> "tuple[Callable[[Checker], None], ...]":
    """Return the parts in their order. Torch is imported here, after --help and the preparation."""
    from measurements import compare_tf32, measure_a_step, run_bench, sample_maps
    from trainings import feed_the_device, train_both_stages

    return train_both_stages, feed_the_device, compare_tf32, measure_a_step, sample_maps, run_bench


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="gpu_check.sh", allow_abbrev=False)
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir()) / "gpu_check")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--prepare", type=Path)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", choices=("true", "false"), default="false")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """Run all parts; return the exit code."""
    options = parse_arguments(argv)
    small = options.small == "true"
    start_server()
    if options.prepare is not None:
        prepare(options.prepare, small=small)
        return 0
    shutil.rmtree(options.out, ignore_errors=True)
    options.out.mkdir(parents=True)
    data = options.data or options.out / "data"
    if options.data is None:
        prepare(data, small=small)
    checker = Checker(options.device, options.out, data, small)
    for part in list_parts():
        checker.run_part(part)
    took_s = time.monotonic() - checker.started_s
    title = f"{describe_device(options.device)}; {took_s:.0f} s"
    table = [f"| {title} | found | goal | reached |", "|---|---|---|---|", *map(format_row, checker.checks)]
    result = {"device": title, "small": small, "checks": [asdict(check) for check in checker.checks]}
    (options.out / "table.md").write_text("\n".join(table) + "\n")
    (options.out / "table.json").write_text(json.dumps(result, indent=1) + "\n")
    print_line("\n" + "\n".join(table))
    sys.stdout.write(json.dumps(result) + "\n")
    return int(any(check.passed is False for check in checker.checks))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
