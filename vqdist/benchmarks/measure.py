"""Benchmark utilities: timing of cases in turn (median of repeats), result records and a description of the machine."""

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch

from vqdist.foundation.progress import ProgressBar, print_message
from vqdist.runs.environment import PACKAGES, count_cores, find_versions
from vqdist.training.precision_support import has_fast_bf16

T = TypeVar("T")
Unit = Literal["ms", "s", "MiB", "samples/s", "steps/s", "%", "SSIM", "dB", "codes"]
_MORE_IS_BETTER = ("samples/s", "steps/s", "dB", "codes")


@dataclass(frozen=True)
class Result:
    """One comparison with a peer, or one value without a peer."""

    part: str
    case: str
    ours: float
    unit: Unit
    peer: str | None = None
    theirs: float | None = None

    @property
    def ratio(self) -> float | None:
        """Above 1 if ours is better. For SSIM, the ratio of the distances to 1."""
        if self.theirs is None:
            return None
        if self.unit == "SSIM":
            return (1 - self.theirs) / (1 - self.ours)
        return self.ours / self.theirs if self.unit in _MORE_IS_BETTER else self.theirs / self.ours

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "ratio": self.ratio}


def compare(part: str, case: str, unit: Unit, ours: float, peers: Mapping[str, float]) -> list[Result]:
    """Return one result per peer."""
    return [Result(part, case, ours, unit, name, theirs) for name, theirs in peers.items()]


@dataclass(frozen=True)
class Bench:
    """Settings of all parts.

    Attributes:
        repeats: number of repetitions of each measurement.
        small: use tiny sizes, to test that everything runs; the values mean nothing.
        run, data: for the part quality: the run of a trained VQ-VAE and the dataset that it was trained on.
    """

    device: torch.device
    repeats: int = 5
    small: bool = False
    run: Path | None = None
    data: Path | None = None

    def size(self, full: int, small: int) -> int:
        """Return `small` if the sizes are tiny, else `full`."""
        return small if self.small else full

    def time_in_turn(self, works: Mapping[str, Callable[[], object]], *, warmups: int = 1) -> dict[str, float]:
        """Return the median seconds of each work, after `warmups` calls of each that are not measured."""
        with self._show(warmups * len(works), "warm-up") as shown:
            for _ in range(warmups):
                for work in works.values():
                    work()
                    shown.advance()
        return self.measure_in_turn({name: partial(self.time, work) for name, work in works.items()})

    def measure_in_turn(self, measures: Mapping[str, Callable[[], float]]) -> dict[str, float]:
        """Return the median value of each measure. The measures take turns, so that all see the same machine load."""
        values: dict[str, list[float]] = {name: [] for name in measures}
        with self._show(self.repeats * len(measures), "measure") as shown:
            for _ in range(self.repeats):
                for name, measure in measures.items():
                    shown.annotate(name)
                    values[name].append(measure())
                    shown.advance()
        return {name: statistics.median(found) for name, found in values.items()}

    def time(self, work: Callable[[], object]) -> float:
        """Return the seconds of one call, including the work that it queues on the device."""
        self._synchronize()
        start_s = time.perf_counter()
        work()
        self._synchronize()
        return time.perf_counter() - start_s

    @contextmanager
    def _show(self, total: int, label: str) -> Iterator[ProgressBar]:
        """Show the progress of calls between them, not during one, and leave no line of it."""
        shown = ProgressBar(total, unit="calls", label=label)
        try:
            yield shown
        finally:
            shown.close(complete=False)

    def _synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def build_installed(part: str, case: str, builders: Mapping[str, Callable[[], T]]) -> dict[str, T]:
    """Build the peers by name; print a line for each one that raises ImportError."""
    built = {}
    for name, build in builders.items():
        try:
            built[name] = build()
        except ImportError as error:
            print_skipped(part, f"{case}: {name}", f"{error}; pip install vqdist[bench]")
    return built


def print_skipped(part: str, case: str, reason: str) -> None:
    """Print that a case is not measured, and why."""
    print_message(f"bench: {part}, {case}: skipped: {reason}")


def choose_device() -> torch.device:
    """Return the GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Return the hardware and software that the results depend on."""
    return {
        "cpu": _cpu_name(),
        "cores": count_cores(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "fast_bf16": has_fast_bf16(device),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": find_versions([*PACKAGES, "vector-quantize-pytorch", "monai"]),
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, None) or platform.processor() or platform.machine()


def child_environment() -> dict[str, str]:
    """Return the environment of a child process that imports from the same folders as this process."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(part or os.getcwd() for part in sys.path)}
