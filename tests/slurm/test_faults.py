"""Faults of a cluster: nodes fail, daemons die, links fail."""

import os
import signal
import time
from pathlib import Path

import pytest
from slurm_cluster import Machine, poll
from slurm_jobs import PATIENCE_S, Jobs

TWO = "--nodes=2 --ntasks-per-node=1"
# For runs that the test itself stops, so that they cannot finish first.
ENDLESS = ("--train.max_steps", "100000", "--optim.decay_steps", "90")


@pytest.mark.parametrize("place", [0, pytest.param(1, marks=pytest.mark.long)])
def test_node_loses_power(jobs: Jobs, place: int) -> None:
    """The first node has rank 0 and the batch script; the second is the easier case."""
    job, run = jobs.train("steady", flags=TWO)
    jobs.wait_step(job, run, 15)
    saved = max((run.path / "checkpoints").glob("step-*/COMMIT.json")).parent.name
    lost = jobs.cluster.run("scontrol", "show", "hostnames", jobs.cluster.job(job)["NodeList"]).stdout.split()[place]
    jobs.cluster.power_off(lost)
    jobs.wait_attempt(job, 2)
    assert lost not in jobs.cluster.job(job)["NodeList"]
    assert max((run.path / "checkpoints").glob("step-*/COMMIT.json")).parent.name >= saved
    jobs.assert_completed(job)
    run.assert_exact_ledger()
    run.assert_same_as(jobs.undisturbed("steady", 2))


def test_old_rank_writes_nothing_after_the_new_one_started(jobs: Jobs) -> None:
    """Without slurmd the ranks of a node keep running while Slurm restarts the job on another node."""
    job, run = jobs.train("steady", *ENDLESS, flags="--nodes=1")
    jobs.wait_step(job, run, 5)
    first = jobs.cluster.job(job)["BatchHost"]
    jobs.cluster.kill_slurmd(first)
    jobs.wait_attempt(job, 2)
    poll(lambda: not find_ranks(jobs.cluster.nodes[first]), PATIENCE_S, "the old rank's end")
    assert "a newer process owns this run" in run.log(0)
    assert run.status["state"] == "running"
    jobs.stop(job, run)
    run.assert_exact_ledger()


def test_controller_restarts_and_a_link_is_cut(jobs: Jobs) -> None:
    job, run = jobs.train("steady", *ENDLESS, flags=f"{TWO} --nodelist=node[1-2]")
    jobs.wait_step(job, run, 5)
    jobs.cluster.stop_controller()
    jobs.cluster.start_controller()
    jobs.wait_attempt(job, 1)
    jobs.cluster.unplug("node2")
    time.sleep(2)
    before = run.step
    jobs.cluster.plug("node2")
    jobs.wait_step(job, run, before + 10)
    jobs.stop(job, run)
    assert jobs.cluster.job(job)["Restarts"] == "0"
    assert run.log(0).count("attempt 1: vqdist.train") == 1
    run.assert_exact_ledger()


def test_killed_rank_ends_the_job(jobs: Jobs) -> None:
    job, run = jobs.train("steady", flags=f"{TWO} --nodelist=node[1-2]")
    jobs.wait_step(job, run, 5)
    os.kill(find_ranks(jobs.cluster.nodes["node2"])[0], signal.SIGKILL)
    assert jobs.finish(job) == "FAILED"
    assert "failed: the last lines of the rank logs" in jobs.log(job)
    assert jobs.cluster.job(job)["Restarts"] == "0"


def find_ranks(node: Machine) -> list[int]:
    """Return the host PIDs of the training processes of a node."""
    commands = {pid: Path(f"/proc/{pid}/cmdline") for pid in node.processes()}
    return [pid for pid, path in commands.items() if path.exists() and b"-m\0vqdist.train" in path.read_bytes()]
