"""This machine: versions, devices, memory, and whether signals arrive."""

import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from vqdist.diagnosis.report import Check
from vqdist.runs.environment import PACKAGES, find_versions

LITTLE_MEMORY_BYTES = 2 * 2**30
# A process that only waits for the signals that a cluster sends, and tells of each.
LISTENER = """
import signal, sys
def hear(number, frame):
    print(number, flush=True)
for number in (signal.SIGUSR1, signal.SIGTERM):
    signal.signal(number, hear)
print(0, flush=True)
while True:
    signal.pause()
"""


def check_machine(precision: str, device: str) -> list[Check]:
    """Return all checks of this rank's machine, for a run of this precision on this device."""
    of_device = [check_devices(device), check_precision(precision, device)]
    return [check_versions(), *of_device, check_memory(), check_signals()]


def check_versions() -> Check:
    """Compare what is installed with what the package asks for."""
    versions = {"python": platform.python_version(), **find_versions(PACKAGES)}
    missing = []
    for text in _requirements():
        try:
            asked = Requirement(text)
        except InvalidRequirement:
            continue
        if asked.marker is not None and not asked.marker.evaluate({"extra": ""}):
            continue
        try:
            there = metadata.version(asked.name)
        except metadata.PackageNotFoundError:
            missing.append(f"{asked}: not installed")
            continue
        if not asked.specifier.contains(there, prereleases=True):
            missing.append(f"{asked}: {there}")
    found = ", ".join(f"{name} {version}" for name, version in versions.items())
    if missing:
        return Check("versions", "mend", "; ".join(missing), "pip install --upgrade vqdist in this environment")
    return Check("versions", "ok", found)


def _requirements() -> list[str]:
    try:
        return metadata.requires("vqdist") or []
    except metadata.PackageNotFoundError:  # run from a checkout
        return []


def check_devices(device: str, environ: Mapping[str, str] = os.environ) -> Check:
    """Name the device of this rank and see that each local rank has one of its own."""
    import torch

    local = int(environ.get("LOCAL_WORLD_SIZE", "1"))
    if device == "cuda":
        count = torch.cuda.device_count()
        names = sorted({torch.cuda.get_device_name(index) for index in range(count)})
        free, total = torch.cuda.mem_get_info()
        found = f"{count} x {', '.join(names)}, {free / 2**30:.0f} of {total / 2**30:.0f} GiB free; {local} local ranks"
        if local > count and "," in environ.get("CUDA_VISIBLE_DEVICES", "0,1"):
            return Check("devices", "mend", found, "one rank per GPU: --ntasks-per-node as --gpus-per-node")
        if local < count:
            return Check("devices", "note", found, "as many ranks as GPUs; the others stay idle")
        return Check("devices", "ok", found)
    if device == "mps":
        return Check("devices", "ok", "mps")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = torch.get_num_threads()
    found = f"CPU, {cores} cores; {local} local ranks of {threads} threads"
    if local * threads > cores:
        return Check("devices", "note", found, f"OMP_NUM_THREADS={max(cores // local, 1)}: threads outnumber the cores")
    return Check("devices", "ok", found)


def check_precision(precision: str, device: str) -> Check:
    """Tell whether the device of this rank has instructions for the precision of the run."""
    import torch

    from vqdist.training.precision import find_slow_precision

    slow = find_slow_precision(precision, torch.device(device))
    if slow:
        return Check("precision", "note", slow, "--train.precision fp32, in a new run")
    return Check("precision", "ok", precision)


def check_memory(environ: Mapping[str, str] = os.environ) -> Check:
    """Tell how much memory is left to each local rank."""
    local = int(environ.get("LOCAL_WORLD_SIZE", "1"))
    free = find_free_memory()
    if free is None:
        return Check("memory", "note", "this system does not tell")
    shared = shutil.disk_usage("/dev/shm").free if Path("/dev/shm").is_dir() else free
    found = f"{free / 2**30:.1f} GiB free, {free / local / 2**30:.1f} for each rank; /dev/shm {shared / 2**30:.1f} GiB"
    if free / local < LITTLE_MEMORY_BYTES:
        return Check("memory", "note", found, "more memory (sbatch --mem), fewer ranks or fewer data.num_workers")
    return Check("memory", "ok", found, figures={"free_memory_bytes": float(free)})


def find_free_memory() -> int | None:
    """Return the bytes that processes here can still take: what the system has, within this job's limit."""
    values = {}
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            name, value = line.split(":")
            values[name] = int(value.split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        return None
    free = values.get("MemAvailable")
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        try:
            room = int(Path(limit).read_text()) - int(Path(used).read_text())
        except (OSError, ValueError):  # none, or "max"
            continue
        free = room if free is None else min(free, room)
    return free


def check_signals() -> Check:
    """Send what Slurm sends to a process of this interpreter and wait for its word."""
    name = "signals"
    masked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    blocked = [number.name for number in (signal.SIGUSR1, signal.SIGTERM) if number in masked]
    if blocked:
        return Check(name, "mend", f"blocked: {', '.join(blocked)}", "a launcher that leaves them be")
    with subprocess.Popen([sys.executable, "-S", "-c", LISTENER], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        try:
            child.stdout.readline()
            start = time.perf_counter()
            for number in (signal.SIGUSR1, signal.SIGTERM):
                child.send_signal(number)
                if child.stdout.readline().strip() != str(int(number)):
                    return Check(name, "mend", f"{number.name} does not arrive", "a system that delivers signals")
            took_s = time.perf_counter() - start
        finally:
            child.kill()
    return Check(name, "ok", f"USR1 and TERM heard, {took_s / 2 * 1000:.1f} ms each", figures={"signal_s": took_s / 2})
