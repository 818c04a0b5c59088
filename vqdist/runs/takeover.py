"""Whether another process may still train a run that this process is about to take over."""

import os
import time
from pathlib import Path

from vqdist.foundation.progress import format_duration
from vqdist.foundation.run_status import read_status
from vqdist.runs.checkpoint import list_checkpoints
from vqdist.runs.run_dir import RunDir
from vqdist.runs.run_owner import RunOwner


def describe_takeover(path: Path) -> str | None:
    """Return a warning if the owner of a run directory may still train the run, else None.

    A process of this machine is looked for. A process of another machine may run if it has not written how it ended,
    unless it is an earlier attempt of this Slurm job, which Slurm has ended.
    """
    run_dir = RunDir(path)
    try:
        owner = RunOwner.read(run_dir.owner)
    except (OSError, ValueError):
        return None  # a new run, or a damaged file
    effect = f"this process {_describe_start(run_dir)}, and {owner} ends with an error"
    advice = "To train a second run at the same time, pass another --run.name"
    if _has_ended(run_dir):
        return None
    if owner.is_here():
        return f"WARNING: {path}: {owner} is training this run; {effect}. {advice}" if owner.runs_here() else None
    is_same_job = owner.slurm_job is not None and owner.slurm_job == os.environ.get("SLURM_JOB_ID")
    if is_same_job or read_status(path).get("state") != "running":
        return None
    doubt = f"has not written how it ended (last write {_describe_age(run_dir)} ago)"
    return f"WARNING: {path}: {owner} {doubt}. If it still runs: {effect}. {advice}"


def _has_ended(run_dir: RunDir) -> bool:
    """Return whether the owner has written how its attempt ended."""
    try:
        written_after = run_dir.status.stat().st_mtime >= run_dir.owner.stat().st_mtime
    except OSError:
        return False
    return written_after and read_status(run_dir.path).get("state") != "running"


def _describe_start(run_dir: RunDir) -> str:
    """Return from where the run goes on, and what is lost."""
    checkpoints = list_checkpoints(run_dir.checkpoints)
    if not checkpoints:
        return "starts the run again at step 0, because it has no checkpoint yet; all its steps are lost"
    step = int(checkpoints[-1].name.removeprefix("step-"))
    return f"continues the run from its last checkpoint, step {step:,}; the steps since then are lost"


def _describe_age(run_dir: RunDir) -> str:
    times = [file.stat().st_mtime for file in (run_dir.status, run_dir.metrics) if file.exists()]
    return format_duration(max(0.0, time.time() - max(times, default=time.time())))
