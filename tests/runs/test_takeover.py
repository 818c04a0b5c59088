"""The warning of a process that takes a run over from one that may still train it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from vqdist.runs.run_dir import RunDir
from vqdist.runs.run_owner import RunOwner, find_process_start
from vqdist.runs.takeover import describe_takeover


@pytest.fixture
def other_owner() -> Iterator[RunOwner]:
    """Another process of this machine, as an owner."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as child:
        yield replace(RunOwner.of_this_process("t"), pid=child.pid, process_start=find_process_start(child.pid))
        child.kill()


def write_owner(run: Path, owner: RunOwner) -> RunDir:
    """Write a run directory with this owner and without a status."""
    run_dir = RunDir(run, owner.token)
    run.mkdir(exist_ok=True)
    run_dir.status.unlink(missing_ok=True)
    run_dir.owner.write_bytes(owner.to_json())
    return run_dir


def test_a_process_of_this_machine(tmp_path: Path, other_owner: RunOwner) -> None:
    run = tmp_path / "run"
    assert describe_takeover(run) is None, "a new run"
    run_dir = write_owner(run, other_owner)
    expected = f"WARNING: {run}: process {other_owner.pid} on {other_owner.host} is training this run; this process "
    warning = describe_takeover(run)
    assert warning is not None
    assert warning.startswith(expected)
    assert "starts the run again at step 0, because it has no checkpoint yet; all its steps are lost, and" in warning
    assert "pass another --run.name" in warning
    run_dir.write_status("running", 4)
    assert describe_takeover(run) == warning
    run_dir.write_status("stopped", 5)
    assert describe_takeover(run) is None, "it has ended, and sends the last of it to W&B"
    os.utime(run_dir.owner, (2e9, 2e9))
    assert describe_takeover(run) == warning, "the status is of the attempt before"
    (run_dir.checkpoints / "step-00001000").mkdir(parents=True)
    changed = describe_takeover(run)
    assert changed is not None
    assert "from its last checkpoint, step 1,000; the steps since then are lost, and process" in changed
    run_dir.write_status("running", 6)
    run_dir.owner.write_bytes(replace(other_owner, process_start="1").to_json())
    assert describe_takeover(run) is None, "killed"
    run_dir.owner.write_bytes(b"damaged")
    assert describe_takeover(run) is None


def test_a_process_of_another_machine(tmp_path: Path, other_owner: RunOwner, monkeypatch: pytest.MonkeyPatch) -> None:
    run, owner = tmp_path / "run", replace(other_owner, host="node7", slurm_job="12")
    run_dir = write_owner(run, owner)
    assert describe_takeover(run) is None, "it has not started to train"
    run_dir.write_status("running", 4)
    warning = describe_takeover(run)
    assert warning is not None
    doubt = f"process {owner.pid} on node7 (Slurm job 12) has not written how it ended (last write 0 s ago)"
    assert warning.startswith(f"WARNING: {run}: {doubt}. If it still runs: this process starts the run again")
    monkeypatch.setenv("SLURM_JOB_ID", "13")
    assert describe_takeover(run) == warning
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    assert describe_takeover(run) is None, "a requeue of the same job"
    monkeypatch.delenv("SLURM_JOB_ID")
    run_dir.write_status("stopped", 5)
    assert describe_takeover(run) is None
