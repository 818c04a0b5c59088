"""Signals and STOP files: all ranks stop after the same step, with one checkpoint and exit 75, however many come."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from probes import train_slowly
from support import QUIET, Started, read_metrics, read_records, start, start_train, tiny_flags, train, wait_until

from vqdist.runs.checkpoint import list_checkpoints, load_checkpoint

pytestmark = pytest.mark.ranks

ENDLESS = ["--train.max_steps", "100000", "--train.eval_every", "100000", "--checkpoint.every_steps", "100000"]


def make_words(data: Path, tmp_path: Path, *more: object) -> list[str]:
    fixed = [*QUIET, *tiny_flags(), "--data.path", data, "--run.dir", tmp_path, "--run.name", "run"]
    return [str(word) for word in (*fixed, "--data.ledger", "true", *more)]


def wait_for_step(run: Path, step: int) -> None:
    def done() -> bool:
        ledger = run / "ledger" / "rank-0.jsonl"
        return ledger.exists() and ledger.read_bytes().count(b"\n") >= step

    wait_until(done)


def check_stopped(run: Path, ranks: int = 1) -> int:
    """Check that a run stopped with a single checkpoint, at the same step on every rank; return the step."""
    checkpoints = list_checkpoints(run / "checkpoints")
    assert len(checkpoints) == 1
    step = load_checkpoint(checkpoints[0])[1]["progress"]["step"]
    status = json.loads((run / "status.json").read_text())
    assert (status["state"], status["step"]) == ("stopped", step)
    for rank in range(ranks):
        assert [line["step"] for line in read_records(run / "ledger" / f"rank-{rank}.jsonl")] == [*range(1, step + 1)]
    return step


@pytest.mark.parametrize(
    ("number", "ranks", "workers"),
    [
        (signal.SIGTERM, 1, 0),
        (signal.SIGUSR1, 1, 2),
        (signal.SIGINT, 1, 1),
        (signal.SIGUSR1, 3, 0),
        (signal.SIGINT, 2, 1),
    ],
)
def test_a_signal_to_any_rank_stops_all(number: int, ranks: int, workers: int, image_set: Path, tmp_path: Path) -> None:
    words = make_words(image_set, tmp_path, *ENDLESS, "--data.num_workers", workers)
    with start_train(*words, ranks=ranks) as started:
        wait_for_step(tmp_path / "run", 3)
        started.send(number, ranks - 1)
        before = time.monotonic()
        ended = started.wait()
    assert ended.code == 75, ended.describe()
    assert time.monotonic() - before < 25
    assert "Traceback" not in ended.describe()
    step = check_stopped(tmp_path / "run", ranks)
    train(*words, "--train.max_steps", step + 2)


def bombard(started: Started, seconds: float = 60.0) -> threading.Thread:
    """Send every rank SIGTERM and SIGUSR1 all the time, from a thread, until all have ended."""

    def send() -> None:
        end = time.monotonic() + seconds
        while any(process.is_alive() for process in started.processes) and time.monotonic() < end:
            for number in (signal.SIGTERM, signal.SIGUSR1):
                started.send(number)
            time.sleep(0.002)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("ranks", [1, 2])
def test_more_signals_change_nothing(ranks: int, image_set: Path, tmp_path: Path) -> None:
    words = make_words(image_set, tmp_path, *ENDLESS, "--data.num_workers", 1)
    with start_train(*words, ranks=ranks) as started:
        wait_for_step(tmp_path / "run", 3)
        thread = bombard(started)
        thread.join()
        ended = started.wait()
    assert ended.code == 75, ended.describe()
    check_stopped(tmp_path / "run", ranks)


def test_a_real_process_keeps_75_to_its_last_moment(image_set: Path, tmp_path: Path) -> None:
    """Signals from before torch is loaded until the interpreter has shut down: one step, one checkpoint, 75."""
    command = [sys.executable, "-m", "vqdist.train", *make_words(image_set, tmp_path, *ENDLESS)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, env=environment)
    try:
        wait_until(lambda: handles(process.pid, signal.SIGTERM))
        while process.poll() is None:
            process.send_signal(signal.SIGTERM)
            time.sleep(0.001)
        _, said = process.communicate()
    finally:
        process.kill()
    assert process.returncode == 75, said.decode()
    assert check_stopped(tmp_path / "run") == 1


def handles(pid: int, number: int) -> bool:
    """Tell whether a process catches a signal."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return True  # it has ended, which the test will see
    caught = next((line for line in lines if line.startswith("SigCgt")), "SigCgt: 0")
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def test_a_second_ctrl_c_ends_at_once(image_set: Path, tmp_path: Path) -> None:
    words = make_words(image_set, tmp_path, *ENDLESS, "--checkpoint.every_steps", 2)
    with start(train_slowly, words, 3.0) as started:
        wait_for_step(tmp_path / "run", 2)
        time.sleep(0.2)
        started.send(signal.SIGINT)
        time.sleep(0.1)
        started.send(signal.SIGINT)  # the same key press, which a launcher passed on
        time.sleep(1.5)
        assert started.processes[0].is_alive()
        started.send(signal.SIGINT)
        before = time.monotonic()
        ended = started.wait()
    assert ended.code == 1
    assert time.monotonic() - before < 1.0
    (checkpoint,) = list_checkpoints(tmp_path / "run" / "checkpoints")
    assert load_checkpoint(checkpoint)[1]["progress"]["step"] == 2


@pytest.mark.parametrize("waiting", ["for a rank that hangs", "for a rank that never came"])
def test_two_ctrl_c_end_even_a_rank_that_waits_for_another(waiting: str, image_set: Path, tmp_path: Path) -> None:
    words = make_words(image_set, tmp_path, *ENDLESS, "--run.timeout_s", 600)
    lonely = {"WORLD_SIZE": "3"} if waiting == "for a rank that never came" else {}
    with start_train(*words, ranks=2, environment=lonely) as started:
        if lonely:
            time.sleep(4.0)
        else:
            wait_for_step(tmp_path / "run", 3)
            started.send(signal.SIGSTOP, 1)
            time.sleep(0.5)
        started.send(signal.SIGINT, 0)
        time.sleep(1.5)
        assert started.processes[0].is_alive()
        started.send(signal.SIGINT, 0)
        before = time.monotonic()
        wait_until(lambda: not started.processes[0].is_alive(), 10)
        assert time.monotonic() - before < 1.0
        assert started.processes[0].exitcode == 1


def test_a_stop_file_is_honoured_and_removed(image_set: Path, tmp_path: Path) -> None:
    words = make_words(image_set, tmp_path, *ENDLESS)
    with start_train(*words, ranks=2) as started:
        wait_for_step(tmp_path / "run", 3)
        (tmp_path / "run" / "STOP").touch()
        ended = started.wait()
    assert ended.code == 75, ended.describe()
    check_stopped(tmp_path / "run", 2)
    assert not (tmp_path / "run" / "STOP").exists()


def test_an_evaluation_is_no_reason_to_wait(image_set: Path, tmp_path: Path) -> None:
    """A stop in the middle of one leaves it due; it is made on resume, and the record shows nothing of it."""
    words = make_words(image_set, tmp_path, "--train.eval_every", 6, "--train.max_steps", 12)
    words += ["--data.micro_batch_size", "1"]
    with start(train_slowly, words, 0.0, 1.0, ranks=2) as started:
        wait_for_step(tmp_path / "run", 6)
        time.sleep(0.5)
        started.send(signal.SIGTERM, 1)
        before = time.monotonic()
        ended = started.wait()
    assert ended.code == 75, ended.describe()
    assert time.monotonic() - before < 3.5
    progress = load_checkpoint(list_checkpoints(tmp_path / "run" / "checkpoints")[-1])[1]["progress"]
    assert (progress["step"], progress["eval_due"]) == (6, True)
    assert [line["split"] for line in read_metrics(tmp_path / "run")] == ["train"]
    # A kill right after the evaluation, before it is in a checkpoint, must not leave its line twice.
    with start_train(*words, "--train.max_steps", 7, ranks=2) as started:
        wait_until(lambda: len(read_records(tmp_path / "run" / "metrics.jsonl")) == 2)
        started.send(signal.SIGKILL)
        started.wait()
    train(*words, ranks=2)
    train(*words, "--run.name", "whole", ranks=2)
    assert read_metrics(tmp_path / "run") == read_metrics(tmp_path / "whole")
