"""Checks that every rank of this machine has a GPU that torch can use, before anything is allocated."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

import torch

from vqdist.foundation.errors import Problem
from vqdist.foundation.launcher_environment import number_problems, read_world_size
from vqdist.foundation.progress import count_noun

NVIDIA_DRIVER = Path("/proc/driver/nvidia")


def hides_gpus(environ: Mapping[str, str] = os.environ) -> bool:
    """Tell whether CUDA_VISIBLE_DEVICES hides all GPUs: it is empty, or begins with -1."""
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    return visible is not None and (not visible.strip() or visible.startswith("-1"))


def has_own_gpu(environ: Mapping[str, str] = os.environ) -> bool:
    """Tell whether CUDA_VISIBLE_DEVICES has one entry (a number, GPU-... or MIG-...): it is device 0 of this rank."""
    visible = environ.get("CUDA_VISIBLE_DEVICES", "")
    return bool(visible.strip()) and not hides_gpus(environ) and "," not in visible


def find_gpu_number(environ: Mapping[str, str] = os.environ) -> int:
    """Return the number of this rank's GPU among those that torch can use."""
    return 0 if has_own_gpu(environ) else int(environ.get("LOCAL_RANK", "0"))


def gpu_count_problems(environ: Mapping[str, str] = os.environ) -> list[Problem]:
    """Return a problem if there are more ranks on this machine than GPUs that torch can use."""
    if read_world_size(environ) == 1 or has_own_gpu(environ) or number_problems(environ):
        return []
    count, least = torch.cuda.device_count(), int(environ.get("LOCAL_RANK", "0")) + 1
    ranks = max(int(environ.get("LOCAL_WORLD_SIZE", "1")), least)
    if count == 0 or ranks <= count:
        return []
    found = f"{count_noun(ranks, 'rank')} on this machine, and {count_noun(count, 'GPU')} that torch can use"
    expected = "at most one rank per GPU: start fewer ranks (--num_processes, --ntasks-per-node), or request more GPUs"
    return [Problem("LOCAL_WORLD_SIZE", found, expected)]


def driver_problems(device: str, driver: Path | None = None) -> list[Problem]:
    """Return a problem if this machine has an NVIDIA driver, and torch sees no GPU.

    The CPU must have been requested before, otherwise a run that was meant for a GPU would train on it.

    Args:
        device: run.device.
        driver: the folder that the kernel module makes.
    """
    driver = driver or NVIDIA_DRIVER
    if not driver.is_dir() or torch.cuda.is_available() or device == "mps":
        return []
    version, build = _read_driver_version(driver), torch.version.cuda
    built = f"built for CUDA {build}" if build else "built without CUDA"
    found = f"{device}, and torch {torch.__version__} ({built}) sees no GPU, though NVIDIA driver {version} is loaded"
    expected = (
        "a build of torch for this driver (https://pytorch.org/get-started) and a job with a GPU, "
        "or the CPU: --run.device cpu, in other commands than train --device cpu"
    )
    return [Problem("run.device", found, expected)]


def _read_driver_version(driver: Path) -> str:
    """Return the version of the kernel module: the first number with a dot in its version file."""
    try:
        text = (driver / "version").read_text(errors="replace")
    except OSError:
        text = ""
    found = re.search(r"\b\d+\.\d+(?:\.\d+)*\b", text)
    return found[0] if found else "(unknown version)"
