"""Checks of this machine: package versions, devices, precision, memory, and signals."""

import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from importlib import metadata

from packaging.requirements import Requirement

from vqdist.data.cache_dir import MEMORY_FOLDER, free_bytes, free_memory_bytes
from vqdist.diagnosis.check import Check
from vqdist.foundation.progress import count_noun
from vqdist.runs.environment import PACKAGES, count_cores, find_versions

MIN_RANK_MEMORY_BYTES = 2 * 2**30
GIB = 2**30
# Prints the number of each signal that it receives, of those that Slurm sends to a job.
LISTENER = """
import signal
for number in (signal.SIGUSR1, signal.SIGTERM):
    signal.signal(number, lambda number, frame: print(number, flush=True))
print(0, flush=True)
while True:
    signal.pause()
"""


def check_machine(precision: str, device: str) -> list[Check]:
    """Run all checks of the machine of this rank, whose device is cpu, cuda or mps."""
    device_checks = [check_devices(device), check_precision(precision, device)]
    return [check_versions(), *device_checks, check_memory(), check_signals()]


def check_versions() -> Check:
    """Compare the installed packages with the requirements of vqdist."""
    if missing := list(_find_missing()):
        return Check("versions", "fix", "; ".join(missing), "run `pip install --upgrade vqdist` in this environment")
    versions = {"python": platform.python_version(), **find_versions(PACKAGES)}
    return Check("versions", "ok", ", ".join(f"{name} {version}" for name, version in versions.items()))


def _find_missing() -> Iterator[str]:
    """Yield the requirements that are not met, each with the installed version."""
    try:
        requirements = [Requirement(text) for text in metadata.requires("vqdist") or []]
    except metadata.PackageNotFoundError:  # vqdist is on the path but not installed
        return
    for requirement in requirements:
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        version = find_versions([requirement.name]).get(requirement.name)
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            yield f"{requirement}: {version or 'not installed'}"


def check_devices(device: str, environ: Mapping[str, str] = os.environ) -> Check:
    """Describe the devices of this machine and check that every local rank has one."""
    import torch

    name, local_ranks = "devices", int(environ.get("LOCAL_WORLD_SIZE", "1"))
    if device == "mps":
        return Check(name, "ok", "mps")
    on_node = f"{count_noun(local_ranks, 'rank')} on this node"
    if device == "cuda":
        count = torch.cuda.device_count()
        models = ", ".join(sorted({torch.cuda.get_device_name(index) for index in range(count)}))
        free, total = torch.cuda.mem_get_info()
        found = f"{count} x {models}, {free / GIB:.0f} of {total / GIB:.0f} GiB free; {on_node}"
        if local_ranks < count:
            return Check(name, "note", found, "start one rank per GPU: the other GPUs are idle")
        return Check(name, "ok", found)
    cores, threads = count_cores(), torch.get_num_threads()
    found = f"CPU, {count_noun(cores, 'core')}; {on_node}, {count_noun(threads, 'thread')} each"
    if local_ranks * threads > cores:
        fix = f"set OMP_NUM_THREADS={max(cores // local_ranks, 1)}: there are more threads than cores"
        return Check(name, "note", found, fix)
    return Check(name, "ok", found)


def check_precision(precision: str, device: str) -> Check:
    """Check that the device has instructions for the precision of the run."""
    import torch

    from vqdist.training.precision_support import find_slow_precision

    if slow := find_slow_precision(precision, torch.device(device)):
        return Check("precision", "note", slow, "pass --train.precision fp32 to a new run")
    return Check("precision", "ok", precision)


def check_memory(environ: Mapping[str, str] = os.environ) -> Check:
    """Check how much memory each local rank can use."""
    name, local_ranks = "memory", int(environ.get("LOCAL_WORLD_SIZE", "1"))
    free = free_memory_bytes()
    if free is None:
        return Check(name, "note", "unknown: this system has no /proc/meminfo")
    shared = free_bytes(MEMORY_FOLDER) if MEMORY_FOLDER.is_dir() else free
    rank_bytes = free / local_ranks
    found = f"{free / GIB:.1f} GiB free, {rank_bytes / GIB:.1f} for each rank; {MEMORY_FOLDER} {shared / GIB:.1f} GiB"
    if rank_bytes < MIN_RANK_MEMORY_BYTES:
        return Check(
            name, "note", found, "request more memory (sbatch --mem), or use fewer ranks or fewer data.num_workers"
        )
    return Check(name, "ok", found, figures={"free_memory_bytes": float(free)})


def check_signals() -> Check:
    """Check that the signals that Slurm sends reach a Python process."""
    name = "signals"
    numbers = (signal.SIGUSR1, signal.SIGTERM)
    masked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    if blocked := [number.name for number in numbers if number in masked]:
        return Check(name, "fix", f"blocked: {', '.join(blocked)}", "use a launcher that does not block signals")
    with subprocess.Popen([sys.executable, "-S", "-c", LISTENER], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        try:
            child.stdout.readline()  # the handlers are installed
            start_s = time.perf_counter()
            for number in numbers:
                child.send_signal(number)
                if child.stdout.readline().strip() != str(int(number)):
                    return Check(
                        name,
                        "fix",
                        f"{number.name} does not arrive",
                        "use a launcher and a system that deliver signals",
                    )
            signal_s = (time.perf_counter() - start_s) / len(numbers)
        finally:
            child.kill()
    return Check(name, "ok", f"USR1 and TERM arrive in {signal_s * 1000:.1f} ms", figures={"signal_s": signal_s})
