"""Signals and STOP files: all ranks stop after the same step, with one checkpoint and exit code 75."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from support import Started, find_port, read_metrics, read_records, start, start_train, train, wait_until
from support.faulty_training import train_and_block, train_with_slow_evaluation
from support.interrupted_runs import ENDLESS, read_checkpoint_step, run_flags, wait_for_step

from vqdist.distributed.stop_requests import StopRequest
from vqdist.runs.checkpoint import list_checkpoints, load_checkpoint
from vqdist.runs.run_dir import RunDir

pytestmark = pytest.mark.ranks


def test_first_reason_is_kept_and_a_stop_file_is_one(tmp_path: Path) -> None:
    stop = StopRequest()
    stop.check_file(tmp_path / "STOP")
    assert stop.reason is None
    (tmp_path / "STOP").touch()
    stop.check_file(tmp_path / "STOP")
    assert stop.reason == "STOP file"
    stop.on_signal(signal.SIGTERM)
    assert stop.reason == "STOP file"


def test_second_interrupt_exits_unless_a_launcher_forwarded_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    stop, exits = StopRequest(), []
    monkeypatch.setattr(os, "_exit", exits.append)
    for now, expected in ((10.0, []), (10.9, []), (11.1, [1])):
        monkeypatch.setattr(time, "monotonic", lambda now=now: now)
        stop.on_signal(signal.SIGINT)
        assert exits == expected
    assert stop.reason == "SIGINT"


def check_stopped(run: Path, ranks: int = 1) -> int:
    """Check that a run stopped with a single checkpoint, at the same step on every rank; return the step."""
    checkpoints = list_checkpoints(RunDir(run).checkpoints)
    assert len(checkpoints) == 1
    step = read_checkpoint_step(run)
    status = json.loads(RunDir(run).status.read_text())
    assert (status["state"], status["step"]) == ("stopped", step)
    for rank in range(ranks):
        assert [line["step"] for line in read_records(RunDir(run).ledger(rank))] == [*range(1, step + 1)]
    return step


@pytest.mark.parametrize(
    ("number", "ranks", "workers"),
    [
        (signal.SIGTERM, 1, 2),
        (signal.SIGUSR1, 3, 0),
        (signal.SIGINT, 2, 1),
        pytest.param(signal.SIGUSR1, 1, 2, marks=pytest.mark.long),
        pytest.param(signal.SIGINT, 1, 1, marks=pytest.mark.long),
    ],
)
def test_a_signal_to_any_rank_stops_all(number: int, ranks: int, workers: int, image_set: Path, tmp_path: Path) -> None:
    words = run_flags(image_set, tmp_path, *ENDLESS, "--data.num_workers", workers)
    with start_train(*words, ranks=ranks) as started:
        wait_for_step(tmp_path / "run", 3)
        started.send(number, ranks - 1)
        ended = started.wait()
    assert ended.code == 75, ended.describe()
    assert "Traceback" not in ended.describe()
    step = check_stopped(tmp_path / "run", ranks)
    train(*words, "--train.max_steps", step + 2)


def send_until_exit(started: Started, numbers: tuple[int, ...], rank: int, pause_s: float = 0.002) -> None:
    """Send signals to a rank until it has exited."""
    process = started.processes[rank]

    def sent_to_exited() -> bool:
        for number in numbers:
            started.send(number, rank)
        time.sleep(pause_s)
        return not process.is_alive()

    wait_until(sent_to_exited)


@pytest.mark.parametrize("ranks", [1, 2])
def test_more_signals_change_nothing(ranks: int, image_set: Path, tmp_path: Path) -> None:
    words = run_flags(image_set, tmp_path, *ENDLESS, "--data.num_workers", 1)
    with start_train(*words, ranks=ranks) as started:
        wait_for_step(tmp_path / "run", 3)
        numbers = (signal.SIGTERM, signal.SIGUSR1)
        threads = [threading.Thread(target=send_until_exit, args=(started, numbers, rank)) for rank in range(ranks)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        ended = started.wait()
    assert ended.code == 75, ended.describe()
    check_stopped(tmp_path / "run", ranks)


def test_a_real_process_keeps_75_to_its_last_moment(image_set: Path, tmp_path: Path) -> None:
    """Signals from before torch is imported until the interpreter has exited: one step, one checkpoint, 75."""
    command = [sys.executable, "-m", "vqdist.train", *run_flags(image_set, tmp_path, *ENDLESS)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, env=environment)
    try:
        wait_until(lambda: handles(process.pid, signal.SIGTERM))
        while process.poll() is None:
            process.send_signal(signal.SIGTERM)
            time.sleep(0.001)
        _, errors = process.communicate()
    finally:
        process.kill()
    assert process.returncode == 75, errors.decode()
    assert check_stopped(tmp_path / "run") == 1


def handles(pid: int, number: int) -> bool:
    """Tell whether a process has a handler for a signal."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return True  # it has exited, which the test detects
    caught = next((line for line in lines if line.startswith("SigCgt")), "SigCgt: 0")
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def test_a_second_ctrl_c_exits_in_the_middle_of_a_step(image_set: Path, tmp_path: Path) -> None:
    words = run_flags(image_set, tmp_path, *ENDLESS, "--checkpoint.every_steps", 2)
    with start(train_and_block, words, 3, str(tmp_path / "reached")) as started:
        wait_until((tmp_path / "reached").exists)
        send_until_exit(started, (signal.SIGINT,), 0, pause_s=0.1)
        ended = started.wait()
    assert ended.code == 1
    assert "the same command continues from the last one" in ended.logs[0]
    assert read_checkpoint_step(tmp_path / "run") == 2


@pytest.mark.parametrize("waiting", ["for a rank that hangs", "for a rank that never came"])
def test_two_ctrl_c_exit_a_rank_that_waits_for_another(waiting: str, image_set: Path, tmp_path: Path) -> None:
    words, port = run_flags(image_set, tmp_path, *ENDLESS, "--run.timeout_s", 600), find_port()
    never_came = waiting == "for a rank that never came"
    environment = {"MASTER_PORT": str(port)} | ({"WORLD_SIZE": "3"} if never_came else {})
    with start_train(*words, ranks=2, environment=environment) as started:
        if never_came:
            wait_until(lambda: is_listening(port))
        else:
            wait_for_step(tmp_path / "run", 3)
            started.send(signal.SIGSTOP, 1)
        send_until_exit(started, (signal.SIGINT,), 0, pause_s=0.1)
        assert started.processes[0].exitcode == 1


def is_listening(port: int) -> bool:
    """Tell whether a process of this machine listens on a TCP port."""
    lines = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()]
    return any(line[1].endswith(f":{port:04X}") and line[3] == "0A" for line in lines)


def test_a_stop_file_stops_the_run_and_is_removed(image_set: Path, tmp_path: Path) -> None:
    words = run_flags(image_set, tmp_path, *ENDLESS)
    with start_train(*words, ranks=2) as started:
        wait_for_step(tmp_path / "run", 3)
        (tmp_path / "run" / "STOP").touch()
        ended = started.wait()
    assert ended.code == 75, ended.describe()
    check_stopped(tmp_path / "run", 2)
    assert not (tmp_path / "run" / "STOP").exists()
    assert f"{tmp_path / 'run' / 'STOP'}: this file stopped the run; removed" in ended.logs[0]
    assert "found at the start" not in ended.logs[0]


def test_a_stop_file_of_an_earlier_attempt_is_named(image_set: Path, tmp_path: Path) -> None:
    file = tmp_path / "run" / "STOP"
    file.parent.mkdir()
    file.touch()
    words = run_flags(image_set, tmp_path, "--train.max_steps", 3)
    ended = train(*words, check=False)
    assert ended.code == 75, ended.describe()
    assert f"{file}: found at the start; the run stops at once, run it again to continue" in ended.logs[0]
    assert f"{file}: this file stopped the run; removed" in ended.logs[0]
    assert "STOP" not in train(*words).logs[0]


def test_a_stop_interrupts_an_evaluation(image_set: Path, tmp_path: Path) -> None:
    """The interrupted evaluation is repeated on resume, and the record is that of an uninterrupted run."""
    words = run_flags(image_set, tmp_path, "--train.eval_every", 6, "--train.max_steps", 12)
    words += ["--data.micro_batch_size", "1"]
    with start(train_with_slow_evaluation, words, str(tmp_path), 1.0, ranks=2) as started:
        wait_until((tmp_path / "batches-1").exists)
        started.send(signal.SIGTERM, 1)
        ended = started.wait()
    assert ended.code == 75, ended.describe()
    assert len((tmp_path / "batches-0").read_text()) < 5, "all 9 samples were evaluated"
    progress = load_checkpoint(list_checkpoints(RunDir(tmp_path / "run").checkpoints)[-1])[1]["progress"]
    assert (progress["step"], progress["eval_due"]) == (6, True)
    assert [line["split"] for line in read_metrics(tmp_path / "run")] == ["train"]
    # A kill right after the evaluation, before the next checkpoint, must not leave its line twice.
    with start_train(*words, "--train.max_steps", 7, ranks=2) as started:
        wait_until(lambda: len(read_records(RunDir(tmp_path / "run").metrics)) == 2)
        started.send(signal.SIGKILL)
        started.wait()
    train(*words, ranks=2)
    train(*words, "--run.name", "whole", ranks=2)
    assert read_metrics(tmp_path / "run") == read_metrics(tmp_path / "whole")
