"""How soon the command line answers."""

import os
import subprocess
import sys

from vqdist.benchmarks.measure import Bench, Result, compare


def run(bench: Bench) -> list[Result]:
    """Measure the part."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(part or os.getcwd() for part in sys.path)}

    def call(*words: str) -> None:
        subprocess.run([sys.executable, *words], check=True, capture_output=True, env=env)

    works = {
        "ours": lambda: call("-m", "vqdist.train", "--help"),
        'python -c "import torch"': lambda: call("-c", "import torch"),
    }
    times = bench.time_in_turn(works)
    ours = times.pop("ours")
    return compare("start", "python -m vqdist.train --help", "s", ours, times)
