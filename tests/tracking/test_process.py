"""The process that makes the W&B calls: each step once, in order, over errors, rollbacks and newer attempts."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from wandb_server import Server
from wandb_support import (
    append_lines,
    build_config,
    find_core,
    forget_credentials,
    inspect_wandb_file,
    limit_finish,
    needs_proc,
    read_sent,
    start,
    train_line,
    wait_for,
)

from vqdist.foundation.atomic_files import write_atomic
from vqdist.foundation.errors import OwnershipError
from vqdist.runs.run_dir import RunDir
from vqdist.tracking import process
from vqdist.tracking.process import describe_images, read_events, send
from vqdist.tracking.state import TrackingState
from vqdist.tracking.tracker import Tracker


@pytest.fixture(autouse=True)
def _no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    forget_credentials(monkeypatch, tmp_path)
    limit_finish(monkeypatch)


class RecordingRun:
    """Stands for a W&B run: records the calls."""

    offline, name = True, "demo"

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.summary: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **kwargs: self.calls.append((name, *args, *kwargs.values()))

    @property
    def steps(self) -> list[int]:
        """The steps of the rows, in the order in which they came."""
        return [call[1]["global_step"] for call in self.calls if call[0] == "log"]


@pytest.fixture
def fake_wandb(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = {name: lambda *args, **kwargs: (args, kwargs) for name in ("Image", "Histogram", "Table")}
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(**kinds))


def log_event(run: Path, **event: Any) -> None:
    """Append an event to the event file."""
    with (run / "events.jsonl").open("a") as file:
        file.write(json.dumps(event) + "\n")


def finish(path: Path, state: str = "finished") -> None:
    log_event(path, do="finish", state=state, exit_code=0)


def follow_run(
    run_dir: RunDir, monkeypatch: pytest.MonkeyPatch, *between: Callable[[], None], parent: int | None = None
) -> RecordingRun:
    """Follow a run of which `between` happens, one by one, between two polls."""
    happenings = iter(between)
    monkeypatch.setattr(process.time, "sleep", lambda _: next(happenings)())
    run = RecordingRun()
    state = TrackingState.load(run_dir.wandb)
    parent = os.getppid() if parent is None else parent
    for event in read_events(run_dir, run_dir.path / "events.jsonl", parent, state):
        send(run, event)
    return run


@pytest.fixture
def run_dir(tmp_path: Path) -> RunDir:
    run_dir = RunDir.claim(tmp_path / "demo")
    run_dir.wandb.mkdir()
    return run_dir


@pytest.mark.usefixtures("fake_wandb")
def test_every_line_is_sent_once_before_the_end(run_dir: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    path = run_dir.path

    def train_to_the_end() -> None:
        append_lines(path, train_line(3), train_line(4))
        log_event(path, do="histogram", stream="codebook/usage", step=4, sums=[1], edges=[0, 1])
        log_event(path, do="picture", stream="pictures/previews", step=4, path=str(path / "none.png"))
        finish(path)

    run = follow_run(
        run_dir, monkeypatch, lambda: None, lambda: append_lines(path, train_line(1), train_line(2)), train_to_the_end
    )
    assert run.steps == [1, 2, 3, 4]
    assert run.calls[-1] == ("finish", 0)
    assert read_sent(path) == {"train": 4, "codebook/usage": 4, "pictures/previews": 4}


@pytest.mark.usefixtures("fake_wandb")
def test_steps_after_a_rollback_and_in_the_next_attempt_are_not_repeated(
    run_dir: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = run_dir.path
    append_lines(path, *[train_line(step) for step in (2, 4, 6)])

    def roll_back() -> None:
        write_atomic(run_dir.metrics, json.dumps(train_line(2)).encode() + b"\n")
        append_lines(path, *[train_line(step) for step in (4, 6, 8)])

    first = follow_run(run_dir, monkeypatch, roll_back, lambda: finish(path, "stopped"))
    assert first.steps == [2, 4, 6, 8]
    (path / "events.jsonl").unlink()
    newer = RunDir.claim(path)
    newer.truncate_records(4, eval_due=False)
    append_lines(path, *[train_line(step) for step in (6, 8, 10)])
    second = follow_run(newer, monkeypatch, lambda: finish(path))
    assert second.steps == [10]


@pytest.mark.usefixtures("fake_wandb")
def test_steps_count_as_sent_before_they_are_sent(run_dir: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[dict[str, int]] = []
    monkeypatch.setattr(RecordingRun, "log", lambda *_: saved.append(read_sent(run_dir.path)), raising=False)
    append_lines(run_dir.path, train_line(1), train_line(2))
    follow_run(run_dir, monkeypatch, lambda: append_lines(run_dir.path, train_line(3)), lambda: finish(run_dir.path))
    assert saved == [{"train": 2}, {"train": 3}, {"train": 3}]


@pytest.mark.usefixtures("fake_wandb")
def test_the_lines_of_a_newer_attempt_are_left_to_it(run_dir: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    append_lines(run_dir.path, train_line(1))

    def restart() -> None:
        newer = RunDir.claim(run_dir.path)
        newer.truncate_records(0, eval_due=False)
        append_lines(run_dir.path, train_line(1), train_line(2))

    with pytest.raises(OwnershipError):
        follow_run(run_dir, monkeypatch, restart)
    assert read_sent(run_dir.path) == {"train": 1}


@pytest.mark.usefixtures("fake_wandb")
def test_what_a_dead_training_has_logged_is_sent_as_failed(run_dir: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    append_lines(run_dir.path, train_line(1))
    (run_dir.path / "events.jsonl").write_text('{"do": "his')
    run = follow_run(run_dir, monkeypatch, parent=-1)
    assert run.steps == [1]
    assert run.summary == {"state": "failed"}
    assert run.calls[-1] == ("finish", 1)


@pytest.mark.usefixtures("fake_wandb")
@pytest.mark.parametrize(
    ("state", "calls"),
    [
        ("finished", ["finish"]),
        ("stopped", ["mark_preempting", "finish"]),
        ("failed", ["alert", "finish"]),
        (None, ["finish"]),
    ],
)
def test_the_end_of_a_run_is_shown(state: str | None, calls: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    run = RecordingRun()
    send(run, {"do": "finish", "state": state, "exit_code": 0})
    assert [name for name, *_ in run.calls] == calls
    assert run.summary == ({} if state is None else {"state": state})


@pytest.mark.usefixtures("fake_wandb")
def test_a_sweep_does_not_repeat_a_run_that_slurm_requeues(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    run = RecordingRun()
    send(run, {"do": "finish", "state": "stopped", "exit_code": 75})
    assert run.calls == [("finish", 75)]


@pytest.mark.usefixtures("fake_wandb")
def test_a_report_is_one_row_with_all_its_parts(run_dir: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    path = run_dir.path
    Image.new("L", (8, 8)).save(path / "p.png")

    def log_parts() -> None:
        log_event(path, do="histogram", stream="codebook/usage", step=4, sums=[1], edges=[0, 1])

    def log_the_rest() -> None:
        append_lines(path, train_line(4), {"step": 4, "split": "validate", "loss": 0.5})
        log_event(path, do="picture", stream="pictures/previews", step=4, path=str(path / "p.png"))

    run = follow_run(run_dir, monkeypatch, log_parts, log_the_rest, lambda: finish(path))
    (row,) = [call[1] for call in run.calls if call[0] == "log"]
    assert row.keys() >= {"train/loss", "validate/loss", "codebook/usage", "pictures/previews", "speed/samples_per_s"}
    assert row["global_step"] == 4


@pytest.mark.usefixtures("fake_wandb")
def test_the_newest_report_is_sent_although_nothing_follows(run_dir: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    append_lines(run_dir.path, train_line(2))
    steps: list[list[int]] = []
    real = RecordingRun.__init__

    def remember(run: RecordingRun) -> None:
        real(run)
        runs.append(run)

    runs: list[RecordingRun] = []
    monkeypatch.setattr(RecordingRun, "__init__", remember)
    follow_run(
        run_dir,
        monkeypatch,
        lambda: None,
        lambda: steps.append(runs[0].steps),
        lambda: finish(run_dir.path),
    )
    assert steps == [[2]]


@pytest.mark.usefixtures("fake_wandb")
def test_the_summary_has_the_best_values_of_all_attempts(run_dir: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    values = [(1, 0.5, 0.7), (2, 0.3, 0.9), (3, 0.4, 0.8)]
    lines = [{"step": step, "split": "validate", "loss": loss, "ssim": ssim} for step, loss, ssim in values]
    append_lines(run_dir.path, *lines, train_line(4))
    state = TrackingState.load(run_dir.wandb)
    state.sent = {"validate": 2}  # by an earlier attempt
    state.save(run_dir.wandb)
    run = follow_run(run_dir, monkeypatch, lambda: finish(run_dir.path))
    assert run.summary == {"state": "finished", "validate/loss": {"min": 0.3}, "validate/ssim": {"max": 0.9}}


def test_a_hanging_process_exits_after_training() -> None:
    program = """
import threading
from vqdist.tracking import process
process.ORPHAN_LIMIT_S = 0.1
threading.Thread(target=process.exit_after, args=[-1]).start()
threading.Event().wait()
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 1


@needs_proc
def test_a_killed_core_process_is_replaced(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tracker = start(tmp_path)
    pid = tracker._process.pid
    append_lines(tmp_path, train_line(1))
    core = wait_for(lambda: find_core(pid))
    wait_for(lambda: read_sent(tmp_path))
    os.kill(pid, signal.SIGTERM)  # is blocked
    os.kill(core, signal.SIGKILL)
    step = 1

    def log_more() -> bool:
        nonlocal step
        step += 1
        append_lines(tmp_path, train_line(step))
        return find_core(pid) not in {None, core}

    wait_for(log_more)
    tracker.finish("finished", 0)
    assert tracker._process.returncode == 0
    assert "W&B" not in capfd.readouterr().err
    assert "Error" in (tmp_path / "wandb" / "tracking.log").read_text()
    files = list(tmp_path.glob("wandb/offline-run-*/*.wandb"))
    assert len(files) == 2
    assert len({file.name for file in files}) == 1
    assert read_sent(tmp_path) == {"train": step}


@needs_proc
def test_an_online_run_goes_on_online_with_every_step_once_after_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=[0.05], daemon=True).start()
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
        tracker = start(tmp_path, "auto")
        append_lines(tmp_path, train_line(1))
        wait_for(lambda: any(server.history.values()))
        os.kill(wait_for(lambda: find_core(tracker._process.pid)), signal.SIGKILL)
        append_lines(tmp_path, *[train_line(step) for step in range(2, 30)])
        tracker.finish("stopped", 75)
        server.shutdown()
    assert tracker._process.returncode == 0
    (lines,) = server.history.values()
    assert [json.loads(line)["global_step"] for line in lines] == list(range(1, 30))
    assert server.states == [75]
    written = capfd.readouterr().err
    assert written.count(f"W&B: online, {server.url}") == 2
    assert written.count(f"W&B: {describe_images(has_ended=False)}\n") == 1


def test_no_notice_of_pictures_that_are_not_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=[0.05], daemon=True).start()
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
        tracker = start(tmp_path, "auto", images=False)
        tracker.finish("finished", 0)
        server.shutdown()
    written = capfd.readouterr().err
    assert f"W&B: online, {server.url}" in written
    assert "picture" not in written


def test_the_notice_names_the_switch_that_applies() -> None:
    assert "--tracking.images false" in describe_images(has_ended=False)
    assert "WANDB_MODE=disabled" in describe_images(has_ended=True)  # evaluate has no configuration keys


@pytest.mark.parametrize("key", [None, "a" * 40])
def test_offline_if_the_server_cannot_be_used(
    key: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")  # the mode of the configuration has been resolved already
    if key:
        monkeypatch.setenv("WANDB_API_KEY", key)
        monkeypatch.setenv("WANDB_INIT_TIMEOUT", "1")
    tracker = start(tmp_path / "demo", "auto")
    append_lines(tmp_path / "demo", train_line(1))
    tracker.finish("finished", 0)
    assert tracker._process.returncode == 0
    (notice,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("W&B")]
    assert notice.startswith("W&B: offline: "), "as doctor words it"
    assert ("run" if key else "`wandb login`") in notice
    assert f"wandb_sync.sh {tmp_path}/demo" in notice
    (file,) = tmp_path.glob("demo/wandb/offline-run-*/*.wandb")
    assert b"train/loss" in file.read_bytes()


@needs_proc
def test_the_model_of_an_online_run_is_a_version_that_is_the_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=[0.05], daemon=True).start()
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
        monkeypatch.setenv("WANDB_JOB_TYPE", "tuning")
        tracker = start(tmp_path / "run", "auto")
        output = {"path": tmp_path / "model", "metadata": {"step": 3}, "is_input": False, "aliases": ["best"]}
        tracker.log_artifact("model", "vqvae-run", **output)
        tracker.finish("finished", 0)
        server.shutdown()
    assert tracker._process.returncode == 0, (tmp_path / "run" / "wandb" / "tracking.log").read_text()
    assert sorted(server.aliases["vqvae-run"]) == ["best", "latest"]
    (placed,) = server.placed.values()
    assert placed["jobType"] == "tuning"
    assert capfd.readouterr().err.count("W&B: online") == 1


@pytest.fixture
def many_threads() -> Iterator[int]:
    """Threads in this process, more than the process of W&B has."""
    end = threading.Event()
    threads = [threading.Thread(target=end.wait) for _ in range(100)]
    for thread in threads:
        thread.start()
    yield len(threads)
    end.set()
    for thread in threads:
        thread.join()


def test_the_private_settings_of_wandb_do_what_they_are_used_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, many_threads: int
) -> None:
    monkeypatch.setenv("WANDB__STATS_SAMPLING_INTERVAL", "0.1")
    tracker = start(tmp_path)
    append_lines(tmp_path, train_line(1))
    (file,) = wait_for(lambda: list(tmp_path.glob("wandb/offline-run-*/*.wandb")))
    wait_for(lambda: b"speed/samples_per_s" in file.read_bytes())  # flushed long before the end
    tracker.finish("finished", 0)
    added = Tracker(RunDir(tmp_path), build_config(tmp_path), has_ended=True)
    added.log_row({"evaluate/a": 1.0, "global_step": 1})
    added.finish("finished", 0)
    attempt, report = sorted(tmp_path.glob("wandb/offline-run-*/*.wandb"))
    stats = [record["stats"]["item"] for record in inspect_wandb_file(attempt) if record["type"] == "stats"]
    assert max(item["proc.cpu.threads"] for item in stats) > many_threads
    records = inspect_wandb_file(report)
    assert [record for record in records if record["type"] == "stats"] == []
    assert [record["history"]["item"]["evaluate/a"] for record in records if record["type"] == "history"] == [1]


def test_pictures_histograms_and_artifacts_are_written_offline(tmp_path: Path) -> None:
    """`Run._log_artifact` is private: an artifact that an offline run uses must be marked as an input."""
    (tmp_path / "dataset.json").write_text("{}")
    Image.new("L", (8, 8)).save(tmp_path / "picture.png")
    run = tmp_path / "demo"
    tracker = start(run)
    tracker.log_pictures(4, {"previews": tmp_path / "picture.png", "lost": tmp_path / "lost.png"})
    tracker.log_histogram(4, "codebook/usage", [1, 2, 3])
    tracker.log_artifact("dataset", "images-1", path=tmp_path / "dataset.json", metadata={"a": 1}, is_input=True)
    tracker.log_artifact("model", "lost", path=tmp_path / "lost", metadata={}, is_input=True)
    tracker.finish("failed", 1)
    (file,) = run.glob("wandb/offline-run-*/*.wandb")
    records = inspect_wandb_file(file)
    charts = {chart for record in records if record["type"] == "history" for chart in record["history"]["item"]}
    assert {"pictures/previews._type", "codebook/usage._type"} <= charts
    assert not any("lost" in chart for chart in charts)
    artifacts = [record["artifact"] for record in records if record["type"] == "artifact"]
    assert [(artifact["name"], artifact["use_after_commit"]) for artifact in artifacts] == [("images-1", True)]
