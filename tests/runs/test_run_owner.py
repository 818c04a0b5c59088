"""owner.json, and whether the process that it names still runs."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support import wait_until

from vqdist.runs.run_owner import RunOwner, find_process_start


def test_an_owner_is_read_as_it_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    owner = RunOwner.of_this_process("t")
    (tmp_path / "owner.json").write_bytes(owner.to_json())
    assert RunOwner.read(tmp_path / "owner.json") == owner
    assert str(owner) == f"process {os.getpid()} on {owner.host} (Slurm job 12)"
    # An earlier version wrote no start of the process; a later one may write more.
    (tmp_path / "owner.json").write_text(json.dumps({"token": "t", "host": "a", "pid": 3, "new": 1}))
    assert RunOwner.read(tmp_path / "owner.json") == RunOwner("t", "a", 3)
    for damaged in ("", "[]", "{}", "3", "\x80"):
        (tmp_path / "owner.json").write_bytes(damaged.encode("latin-1"))
        with pytest.raises(ValueError, match=r".*"):
            RunOwner.read(tmp_path / "owner.json")


def test_a_process_is_recognised_by_its_number_and_start() -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as child:
        start = find_process_start(child.pid)
        owner = RunOwner("t", RunOwner.of_this_process("t").host, child.pid, start)
        assert start not in {None, find_process_start(os.getpid())}
        assert owner.runs_here()
        assert not RunOwner("t", owner.host, child.pid, "1").runs_here(), "a later process with the same number"
        assert not RunOwner("t", owner.host, child.pid).runs_here(), "of an earlier version"
        assert not RunOwner("t", "elsewhere", child.pid, start).runs_here()
        child.send_signal(signal.SIGSTOP)
        assert owner.runs_here()
        child.kill()
        wait_until(lambda: not owner.runs_here())  # a zombie until it is waited for
    assert find_process_start(child.pid) is None
    assert not RunOwner.of_this_process("t").runs_here(), "this process does not take over from itself"
