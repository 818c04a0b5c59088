"""Jobs that end before their run: time limit, preemption, requeue, cancellation."""

import pytest
from slurm_jobs import PATIENCE_S, Jobs

TWO = "--nodes=2 --ntasks-per-node=1"


def test_time_limit(jobs: Jobs) -> None:
    """Slurm itself sends the signal; it has a resolution of 30 s, and time limits are in minutes."""
    flags = "--nodes=1 --time=1 --signal=B:USR1@20"
    job, run = jobs.train("steady", "--train.max_steps", "100000", flags=flags)
    jobs.wait_attempt(job, 2)
    assert run.status["state"] == "stopped"
    assert "requeue 1: continuing from step" in jobs.log(job)
    jobs.cluster.run("scancel", job)


def test_warned_twice_with_a_cap_of_one(jobs: Jobs) -> None:

    job, run = jobs.train("steady", flags=TWO, VQDIST_MAX_REQUEUES="1")
    jobs.wait_step(job, run, 10)
    jobs.cluster.run("scancel", "--batch", "--signal=USR1", job)
    jobs.wait_attempt(job, 2)
    jobs.wait_step(job, run, run.status["step"] + 5)
    jobs.cluster.run("scancel", "--batch", "--signal=USR1", job)
    assert jobs.finish(job) == "FAILED"
    assert jobs.cluster.job(job)["ExitCode"] == "75:0"
    assert "not requeued: reached VQDIST_MAX_REQUEUES (1)" in jobs.log(job)
    assert run.status["state"] == "stopped"
    assert run.status["step"] < 90

    again, run = jobs.train("steady", flags="--nodes=1")  # on another number of ranks
    jobs.assert_completed(again)
    run.assert_exact_ledger()
    # One rank adds in another order than two, and a latent between two codes may then be assigned to the other one.
    run.assert_same_as(jobs.undisturbed("steady", 2), tolerance=1e-2)


def test_preempted_and_requeued_by_hand(jobs: Jobs) -> None:
    job, run = jobs.train("steady", flags=f"{TWO} --partition=low --exclusive")
    jobs.wait_step(job, run, 10)
    guest = jobs.submit_nothing("--nodes=4 --exclusive --partition=high")
    jobs.assert_completed(guest)
    jobs.wait_attempt(job, 2)
    jobs.wait_step(job, run, run.status["step"] + 5)
    jobs.cluster.run("scontrol", "requeue", job)
    jobs.assert_completed(job)
    assert int(jobs.cluster.job(job)["Restarts"]) == 2
    run.assert_exact_ledger()
    run.assert_same_as(jobs.undisturbed("steady", 2))


@pytest.mark.parametrize("form", [pytest.param("rank", marks=pytest.mark.long), "accelerate"])
def test_cancelled_by_its_user(jobs: Jobs, form: str) -> None:
    job, run = jobs.train("steady", flags=TWO, VQDIST_LAUNCH=form)
    jobs.wait_step(job, run, 5)
    jobs.cluster.run("scancel", job)
    assert jobs.finish(job) == "CANCELLED"
    jobs.cluster.wait_idle(PATIENCE_S)
    assert jobs.cluster.job(job)["JobState"] == "CANCELLED"
    assert jobs.cluster.job(job)["Restarts"] == "0"
    stopped = run.status
    assert stopped["state"] == "stopped"
    assert (run.path / f"checkpoints/step-{stopped['step']:08d}/COMMIT.json").exists()
