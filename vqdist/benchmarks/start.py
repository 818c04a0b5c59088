"""Start-up time of the command line, against the import of torch."""

import subprocess
import sys

from vqdist.benchmarks.measure import Bench, Result, child_environment, compare


def run(bench: Bench) -> list[Result]:
    """Measure the seconds until `--help` of the train command is printed."""
    environment = child_environment()

    def call(*words: str) -> None:
        subprocess.run([sys.executable, *words], check=True, capture_output=True, env=environment)

    works = {
        "ours": lambda: call("-m", "vqdist.train", "--help"),
        'python -c "import torch"': lambda: call("-c", "import torch"),
    }
    times_s = bench.time_in_turn(works)
    return compare("start", "python -m vqdist.train --help", "s", times_s.pop("ours"), times_s)
