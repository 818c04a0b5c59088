"""How parts are measured: the competitors in turn, medians, and the machine that it was on."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from vqdist.foundation.progress import print_message
from vqdist.runs.environment import PACKAGES, find_versions
from vqdist.training.precision import has_fast_bf16

Unit = Literal["ms", "s", "MiB", "samples/s", "steps/s", "%", "SSIM", "dB", "codes"]
_MORE_IS_BETTER = ("samples/s", "steps/s", "dB", "codes")


@dataclass(frozen=True)
class Result:
    """One comparison. The peer is null where a figure stands for itself.

    Attributes:
        ratio: above 1 where ours is better; of SSIM, the peer's distance to 1 over ours.
    """

    part: str
    case: str
    ours: float
    unit: Unit
    peer: str | None = None
    theirs: float | None = None

    @property
    def ratio(self) -> float | None:
        if self.theirs is None:
            return None
        if self.unit == "SSIM":
            return (1 - self.theirs) / (1 - self.ours)
        return self.ours / self.theirs if self.unit in _MORE_IS_BETTER else self.theirs / self.ours

    def to_json(self) -> dict[str, Any]:
        """Return the result as the contract of the bench has it."""
        return {**vars(self), "ratio": self.ratio}


def compare(part: str, case: str, unit: Unit, ours: float, peers: Mapping[str, float]) -> list[Result]:
    """Return a result for each peer."""
    return [Result(part, case, ours, unit, name, theirs) for name, theirs in peers.items()]


@dataclass(frozen=True)
class Bench:
    """The place of the measurements.

    Attributes:
        device: cuda where there is one, else cpu.
        repeats: of each measurement; its median counts.
        small: tiny sizes, to see that everything runs; the figures mean nothing.
        run, data: of the part quality: a trained VQ-VAE, and the data set of images that it was trained on.
    """

    device: torch.device
    repeats: int = 5
    small: bool = False
    run: Path | None = None
    data: Path | None = None

    def size(self, full: int, small: int) -> int:
        """Return one of two sizes."""
        return small if self.small else full

    def time_in_turn(self, works: Mapping[str, Callable[[], object]], *, warmups: int = 1) -> dict[str, float]:
        """Return the median seconds of each work; they take turns, so that all see the same machine."""
        for _ in range(warmups):
            for work in works.values():
                work()
        taken: dict[str, list[float]] = {name: [] for name in works}
        for _ in range(self.repeats):
            for name, work in works.items():
                taken[name].append(self.time(work))
        return {name: statistics.median(values) for name, values in taken.items()}

    def time(self, work: Callable[[], object]) -> float:
        """Return the seconds that one call takes, the device's work included."""
        self._wait()
        start = time.perf_counter()
        work()
        self._wait()
        return time.perf_counter() - start

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def left_out(part: str, case: str, why: object) -> list[Result]:
    """Say that a case is not measured, and why; no figure takes its place."""
    print_message(f"bench: {part}, {case}: left out: {why}")
    return []


def choose_device() -> torch.device:
    """Return the GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Return what the figures depend on."""
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
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
        with open("/proc/cpuinfo") as file:
            lines = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        lines = []
    return lines[0] if lines else platform.processor() or platform.machine()
