"""Where a run took place: commit, versions, Slurm job. For the record; nothing of it decides a result."""

import os
import platform
import socket
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("vqdist", "torch", "torchvision", "accelerate", "webdataset", "numpy", "wandb")
SLURM_FACTS = (
    "SLURM_CLUSTER_NAME",
    "SLURM_JOB_ID",
    "SLURM_ARRAY_JOB_ID",
    "SLURM_ARRAY_TASK_ID",
    "SLURM_RESTART_COUNT",
    "SLURM_JOB_PARTITION",
    "SLURM_JOB_NUM_NODES",
    "SLURM_NTASKS",
    "SLURM_JOB_NODELIST",
)


def describe_environment(job_ids: Sequence[str] = ()) -> dict[str, Any]:
    """Return commit, versions, host and Slurm job of this process.

    Args:
        job_ids: all Slurm jobs that the run has had, this one included.
    """
    return {
        "git_commit": find_commit(Path(__file__).resolve()),
        "versions": {"python": platform.python_version(), **find_versions(PACKAGES)},
        "host": socket.gethostname(),
        "slurm": {**find_slurm_facts(os.environ), "job_ids": list(job_ids)},
    }


def find_slurm_facts(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what Slurm says about the job, without its prefix: job_id, restart_count, ..."""
    return {name.removeprefix("SLURM_").lower(): environ[name] for name in SLURM_FACTS if name in environ}


def find_versions(packages: Sequence[str]) -> dict[str, str]:
    """Return the versions of the packages that are installed, without importing any."""
    versions = {}
    for name in packages:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def count_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def find_commit(source: Path) -> str | None:
    """Return the commit that a source file is tracked in, `-dirty` behind it if tracked files were changed.

    None outside a repository and for an installed package, whose environment may lie inside somebody's.
    """
    if ask_git(source.parent, "ls-files", "--error-unmatch", source.name) is None:
        return None
    commit = ask_git(source.parent, "rev-parse", "HEAD")
    changed = ask_git(source.parent, "status", "--porcelain", "--untracked-files=no")
    return commit + "-dirty" if commit and changed else commit


def ask_git(folder: Path, *arguments: str) -> str | None:
    """Return what git says, or None where there is no git, no repository or no quick answer."""
    try:
        answer = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
