"""Ranks and loader workers that die or hang, launchers that are killed, starts that overtake each other."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from probes import find_children, is_alive
from support import QUIET, digests, find_port, read_records, start_train, tiny_flags, train, wait_until

from vqdist.runs.checkpoint import list_checkpoints, load_checkpoint

pytestmark = pytest.mark.ranks

ENDLESS = ["--train.max_steps", "100000", "--train.eval_every", "100000", "--checkpoint.every_steps", "5"]


def make_words(data: Path, tmp_path: Path, *more: object) -> list[str]:
    fixed = [*QUIET, *tiny_flags(), "--data.path", data, "--run.dir", tmp_path, "--run.name", "run"]
    return [str(word) for word in (*fixed, "--data.ledger", "true", *ENDLESS, *more)]


def wait_for_step(run: Path, step: int) -> None:
    def done() -> bool:
        ledger = run / "ledger" / "rank-0.jsonl"
        return ledger.exists() and ledger.read_bytes().count(b"\n") >= step

    wait_until(done, 120)


def check_resumes(words: list[str], run: Path) -> None:
    """Check that the run can go on for some steps."""
    step = load_checkpoint(list_checkpoints(run / "checkpoints")[-1])[1]["progress"]["step"]
    train(*words, "--train.max_steps", step + 3)
    assert json.loads((run / "status.json").read_text()) == {
        "state": "finished",
        "step": step + 3,
        "ended_early": False,
    }


@pytest.mark.parametrize(
    ("fault", "victim", "workers"), [(signal.SIGKILL, 0, 0), (signal.SIGKILL, 2, 1), (signal.SIGSTOP, 1, 0)]
)
def test_a_rank_that_dies_or_hangs_ends_the_others(
    fault: int, victim: int, workers: int, image_set: Path, tmp_path: Path
) -> None:
    words = make_words(image_set, tmp_path, "--data.num_workers", workers)
    words += ["--run.timeout_s", "3" if fault == signal.SIGSTOP else "60"]
    with start_train(*words, ranks=3) as started:
        wait_for_step(tmp_path / "run", 7)
        started.send(fault, victim)
        before = time.monotonic()
        others = [rank for rank in range(3) if rank != victim]
        for rank in others:
            started.processes[rank].join(30)
        seconds = time.monotonic() - before
        started.send(signal.SIGKILL)
        ended = started.wait()
    # The loader workers of a rank that was killed hold its connections open until they see that it is gone.
    assert seconds < (3.0 if fault == signal.SIGKILL and not workers else 8.0)
    for rank in others:
        assert ended.codes[rank] == 1, ended.describe()
        assert "error: another rank died or did not respond within run.timeout_s" in ended.logs[rank]
        assert "Traceback" not in ended.logs[rank]
    if victim != 0:
        assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "failed"
    check_resumes(words, tmp_path / "run")


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
def test_a_loader_worker_that_dies_or_hangs_is_named(fault: int, image_set: Path, tmp_path: Path) -> None:
    words = make_words(image_set, tmp_path, "--run.timeout_s", 3, "--data.num_workers", 2)
    with start_train(*words, ranks=2) as started:
        wait_for_step(tmp_path / "run", 7)
        workers = wait_until(lambda: find_children(started.pid(1)))
        for worker in workers:
            os.kill(worker, fault)
        before = time.monotonic()
        ended = started.wait(60)
    # A worker that does not answer is waited for once more when its loader is closed.
    assert time.monotonic() - before < (3.0 if fault == signal.SIGKILL else 12.0)
    assert ended.codes == [1, 1], ended.describe()
    assert "error: data.num_workers: a loader worker died, or gave nothing for run.timeout_s" in ended.logs[1]
    assert "error: another rank died" in ended.logs[0]
    assert "Traceback" not in ended.describe()
    wait_until(lambda: not any(is_alive(worker) for worker in workers), 10)
    check_resumes(words, tmp_path / "run")


def test_an_older_start_writes_nothing_more(image_set: Path, tmp_path: Path) -> None:
    """Two ranks are held up, the run is started again elsewhere and ends; then the two wake up."""
    words, run = make_words(image_set, tmp_path), tmp_path / "run"
    with start_train(*words, ranks=2) as older:
        wait_for_step(run, 7)
        older.send(signal.SIGSTOP)
        step = load_checkpoint(list_checkpoints(run / "checkpoints")[-1])[1]["progress"]["step"]
        train(*words, "--train.max_steps", step + 20)
        before = digests(run)
        older.send(signal.SIGCONT)
        ended = older.wait()
    assert ended.codes == [1, 1], ended.describe()
    assert "a newer process owns this run; this process stops writing" in ended.describe()
    assert "Traceback" not in ended.describe()
    assert digests(run) == before
    assert json.loads((run / "status.json").read_text())["state"] == "finished"


def test_starts_that_overtake_each_other_leave_one_owner(image_set: Path, tmp_path: Path) -> None:
    words, run = make_words(image_set, tmp_path), tmp_path / "run"
    with start_train(*words) as first, start_train(*words) as second, start_train(*words) as third:
        starts = (first, second, third)
        wait_until(lambda: sum(started.processes[0].is_alive() for started in starts) == 1)
        (owner,) = [started for started in starts if started.processes[0].is_alive()]
        wait_for_step(run, 12)
        owner.send(signal.SIGTERM)
        codes = sorted(started.wait().code for started in starts)
    assert codes == [1, 1, 75]
    step = load_checkpoint(list_checkpoints(run / "checkpoints")[-1])[1]["progress"]["step"]
    assert [line["step"] for line in read_records(run / "ledger" / "rank-0.jsonl")] == [*range(1, step + 1)]
    check_resumes(words, run)


def launch(words: list[str], ranks: int) -> subprocess.Popen[bytes]:
    """Start the train command as the README says, under Accelerate's own launcher."""
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", str(ranks)]
    several = ["--multi_gpu", "--main_process_port", str(find_port())] if ranks > 1 else ["--cpu"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    command = [*launcher, *several, "-m", "vqdist.train", *words]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, **quiet, env=environment, start_new_session=True)


@pytest.mark.parametrize("fault", ["SIGTERM", "SIGKILL", "Ctrl-C", "SIGTERM to the launcher of one", "all killed"])
def test_a_launcher_that_is_stopped_or_killed_leaves_a_checkpoint_and_no_process(
    fault: str, image_set: Path, tmp_path: Path
) -> None:
    words, run = make_words(image_set, tmp_path, "--data.num_workers", 1), tmp_path / "run"
    launcher = launch(words, 1 if "one" in fault else 2)
    processes: list[int] = []
    try:
        wait_for_step(run, 7)
        processes = find_children(launcher.pid)
        assert len(processes) >= (2 if "one" in fault else 4)
        if fault == "Ctrl-C":
            os.killpg(launcher.pid, signal.SIGINT)
        elif fault == "all killed":  # the launcher gave its ranks sessions of their own
            for pid in (launcher.pid, *processes):
                os.kill(pid, signal.SIGKILL)
        else:
            launcher.send_signal(signal.SIGKILL if fault == "SIGKILL" else signal.SIGTERM)
        before = time.monotonic()
        wait_until(lambda: not any(is_alive(pid) for pid in processes), 30)
        seconds = time.monotonic() - before
        assert launcher.wait(30) != 0
    finally:
        for pid in (launcher.pid, *processes):
            if is_alive(pid):
                os.kill(pid, signal.SIGKILL)
        launcher.wait()
    assert seconds < 10
    state = json.loads((run / "status.json").read_text())["state"]
    assert state == ("running" if fault == "all killed" else "stopped")
    check_resumes(words, run)


def test_ranks_of_a_killed_launcher_end_even_if_one_hangs(image_set: Path, tmp_path: Path) -> None:
    words, run = make_words(image_set, tmp_path), tmp_path / "run"
    launcher = launch(words, 2)
    processes: list[int] = []
    try:
        wait_for_step(run, 12)
        processes = find_children(launcher.pid)
        os.kill(processes[-1], signal.SIGSTOP)
        launcher.kill()
        before = time.monotonic()
        wait_until(lambda: not any(is_alive(pid) for pid in processes[:-1]), 30)
        assert time.monotonic() - before < 10.5
        launcher.wait()
    finally:
        for pid in (launcher.pid, *processes):
            if is_alive(pid):
                os.kill(pid, signal.SIGKILL)
    check_resumes(words, run)
