"""Ranks, loader workers and launchers that die or hang, and attempts that run at the same time."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import gethostname

import pytest
from support import (
    Started,
    digests,
    find_children,
    find_port,
    is_alive,
    read_records,
    start,
    start_train,
    train,
    wait_until,
)
from support.interrupted_runs import ENDLESS, read_checkpoint_step, run_flags, wait_for_step

from vqdist.foundation.run_status import read_status
from vqdist.runs.run_dir import RunDir

pytestmark = pytest.mark.ranks

# In the tests of a process that dies: far longer than the test may take, so that the timeout is not what ends the run.
LONG_TIMEOUT_S = 3600
SHORT_TIMEOUT_S = 5


def make_words(data: Path, tmp_path: Path, *more: object) -> list[str]:
    return run_flags(data, tmp_path, *ENDLESS, "--checkpoint.every_steps", 5, *more)


def check_resumes(words: list[str], run: Path) -> None:
    """Check that the run can continue for some steps."""
    step = read_checkpoint_step(run)
    train(*words, "--train.max_steps", step + 3)
    assert read_status(run) == {"state": "finished", "step": step + 3, "ended_early": False}


@pytest.mark.parametrize(
    ("fault", "victim", "workers"), [(signal.SIGKILL, 0, 0), (signal.SIGKILL, 2, 1), (signal.SIGSTOP, 1, 0)]
)
def test_a_rank_that_dies_or_hangs_ends_the_others(
    fault: int, victim: int, workers: int, image_set: Path, tmp_path: Path
) -> None:
    words = make_words(image_set, tmp_path, "--data.num_workers", workers)
    words += ["--run.timeout_s", str(SHORT_TIMEOUT_S if fault == signal.SIGSTOP else LONG_TIMEOUT_S)]
    with start_train(*words, ranks=3) as started:
        wait_for_step(tmp_path / "run", 7)
        started.send(fault, victim)
        others = [rank for rank in range(3) if rank != victim]
        wait_until(lambda: not any(started.processes[rank].is_alive() for rank in others))
        started.send(signal.SIGKILL)
        ended = started.wait()
    for rank in others:
        assert ended.codes[rank] == 1, ended.describe()
        assert "error: another rank died or did not respond within run.timeout_s" in ended.logs[rank]
        assert "Traceback" not in ended.logs[rank]
    if victim != 0:
        assert read_status(tmp_path / "run")["state"] == "failed"
    check_resumes(words, tmp_path / "run")


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
def test_a_loader_worker_that_dies_or_hangs_is_named(fault: int, image_set: Path, tmp_path: Path) -> None:
    timeout_s = SHORT_TIMEOUT_S if fault == signal.SIGSTOP else LONG_TIMEOUT_S
    words = make_words(image_set, tmp_path, "--run.timeout_s", timeout_s, "--data.num_workers", 2)
    with start_train(*words, ranks=2) as started:
        wait_for_step(tmp_path / "run", 7)
        workers = wait_until(lambda: find_children(started.pid(1)))
        for worker in workers:
            os.kill(worker, fault)
        ended = started.wait()
    assert ended.codes == [1, 1], ended.describe()
    assert "error: data.num_workers: a loader worker died" in ended.logs[1]
    assert "error: another rank died" in ended.logs[0]
    assert "Traceback" not in ended.describe()
    wait_until(lambda: not any(is_alive(worker) for worker in workers))
    check_resumes(words, tmp_path / "run")


def test_an_older_attempt_stops_writing(image_set: Path, tmp_path: Path) -> None:
    """Two ranks are suspended, the run is started again elsewhere and ends; then the two continue."""
    words, run = make_words(image_set, tmp_path), tmp_path / "run"
    with start_train(*words, ranks=2) as older:
        wait_for_step(run, 7)
        older_pid = older.pid(0)
        older.send(signal.SIGSTOP)
        newer = train(*words, "--train.max_steps", read_checkpoint_step(run) + 20)
        before = digests(run)
        older.send(signal.SIGCONT)
        ended = older.wait()
    assert ended.codes == [1, 1], ended.describe()
    assert f"WARNING: {run}: process {older_pid} on {gethostname()} is training this run" in newer.logs[0]
    lost = "a newer process owns this run; this process stops writing: found process "
    assert max(log.count(lost) for log in ended.logs) == 1, "once by each rank that still writes"
    assert "pass another --run.name" in ended.describe()
    assert " next " not in ended.describe(), "the same command would take the run over again"
    assert "Traceback" not in ended.describe()
    assert digests(run) == before
    assert read_status(run)["state"] == "finished"


def test_concurrent_attempts_leave_one_owner(image_set: Path, tmp_path: Path) -> None:
    words, run = make_words(image_set, tmp_path), tmp_path / "run"
    with start_train(*words) as first, start_train(*words) as second, start_train(*words) as third:
        attempts = (first, second, third)
        wait_until(lambda: sum(started.processes[0].is_alive() for started in attempts) == 1)
        (owner,) = [started for started in attempts if started.processes[0].is_alive()]
        wait_for_step(run, 12)
        owner.send(signal.SIGTERM)
        codes = sorted(started.wait().code for started in attempts)
    assert codes == [1, 1, 75]
    step = read_checkpoint_step(run)
    assert [line["step"] for line in read_records(RunDir(run).ledger(0))] == [*range(1, step + 1)]
    check_resumes(words, run)


def run_launcher(words: list[str], ranks: int) -> int:
    """Run the train command under Accelerate's launcher, in this process and a session of its own."""
    from accelerate.commands import launch

    os.setsid()
    several = ["--multi_gpu", "--main_process_port", str(find_port())] if ranks > 1 else ["--cpu"]
    arguments = ["--num_processes", str(ranks), *several, "-m", "vqdist.train", *words]
    launch.launch_command(launch.launch_command_parser().parse_args(arguments))
    return 0


@contextmanager
def kill_on_exit() -> Iterator[list[int]]:
    """Yield a list for process ids; kill those that still run at the end."""
    processes: list[int] = []
    try:
        yield processes
    finally:
        for pid in processes:
            if is_alive(pid):
                os.kill(pid, signal.SIGKILL)


def start_launcher(words: list[str], ranks: int) -> Started:
    return start(run_launcher, words, ranks, environment={"ACCELERATE_USE_CPU": "true"})


@pytest.mark.parametrize(
    "fault",
    [
        "SIGTERM",
        "SIGKILL",
        "Ctrl-C",
        "SIGTERM to the launcher of one",
        pytest.param("all killed", marks=pytest.mark.long),
    ],
)
def test_a_launcher_that_is_stopped_or_killed_leaves_a_checkpoint_and_no_process(
    fault: str, image_set: Path, tmp_path: Path
) -> None:
    words, run = make_words(image_set, tmp_path, "--data.num_workers", 1), tmp_path / "run"
    with start_launcher(words, 1 if "one" in fault else 2) as launcher, kill_on_exit() as processes:
        wait_for_step(run, 7)
        processes += find_children(launcher.pid(0))
        assert len(processes) >= (2 if "one" in fault else 4)
        if fault == "Ctrl-C":
            os.killpg(launcher.pid(0), signal.SIGINT)
        elif fault == "all killed":  # the launcher started its ranks in sessions of their own
            for pid in (launcher.pid(0), *processes):
                os.kill(pid, signal.SIGKILL)
        else:
            launcher.send(signal.SIGKILL if fault == "SIGKILL" else signal.SIGTERM)
        wait_until(lambda: not any(is_alive(pid) for pid in processes))
        assert launcher.wait().code != 0
    assert read_status(run)["state"] == ("running" if fault == "all killed" else "stopped")
    check_resumes(words, run)


def test_ranks_of_a_killed_launcher_exit_even_if_one_hangs(image_set: Path, tmp_path: Path) -> None:
    words, run = make_words(image_set, tmp_path, "--run.timeout_s", LONG_TIMEOUT_S), tmp_path / "run"
    with start_launcher(words, 2) as launcher, kill_on_exit() as processes:
        wait_for_step(run, 12)
        processes += find_children(launcher.pid(0))
        os.kill(processes[-1], signal.SIGSTOP)
        launcher.send(signal.SIGKILL)
        wait_until(lambda: not any(is_alive(pid) for pid in processes[:-1]))
    check_resumes(words, run)
