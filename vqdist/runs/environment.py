"""The environment that a run took place in: commit, package versions, host and Slurm job."""

import os
import platform
import re
import socket
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("vqdist", "torch", "torchvision", "accelerate", "webdataset", "numpy", "wandb")
SLURM_VARIABLES = (
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
        job_ids: all Slurm jobs of the run so far, the current one included.
    """
    return {
        "git_commit": find_commit(Path(__file__).resolve()),
        "versions": {"python": platform.python_version(), **find_versions(PACKAGES)},
        "host": socket.gethostname(),
        "slurm": {**find_slurm_variables(os.environ), "job_ids": list(job_ids)},
    }


def find_slurm_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that describe the Slurm job, in lower case without `SLURM_`: job_id, restart_count, ..."""
    return {name.removeprefix("SLURM_").lower(): environ[name] for name in SLURM_VARIABLES if name in environ}


def find_versions(packages: Sequence[str]) -> dict[str, str]:
    """Return the versions of the installed packages, without importing them."""
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
    """Return the git commit of a tracked source file, with `-dirty` appended if tracked files have changed.

    Returns None if the file is not tracked, as in an installed package: its environment may be inside an unrelated
    repository.
    """
    if _run_git(source.parent, "ls-files", "--error-unmatch", source.name) is None:
        return None
    commit = _run_git(source.parent, "rev-parse", "HEAD")
    changed = _run_git(source.parent, "status", "--porcelain", "--untracked-files=no")
    return commit + "-dirty" if commit and changed else commit


def find_git_state(source: Path) -> dict[str, str]:
    """Return `git_commit` and, without a password in it, `git_remote_url` of a tracked source file; {} if untracked."""
    if (commit := find_commit(source)) is None:
        return {}
    remote = _run_git(source.parent, "remote", "get-url", "origin")
    return {"git_commit": commit.removesuffix("-dirty")} | (
        {"git_remote_url": re.sub(r"//[^/@]*@", "//", remote)} if remote else {}
    )


def _run_git(folder: Path, *arguments: str) -> str | None:
    """Return the output of git, None if git is missing, fails or takes longer than 10 s."""
    try:
        result = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()
