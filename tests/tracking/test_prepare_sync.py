"""A run that was requeued twice, once after a kill: in W&B it is one run with every step once."""

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from wandb_server import Server
from wandb_support import (
    append_lines,
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

from vqdist.foundation.errors import DataError
from vqdist.runs.metrics_file import read_metrics
from vqdist.runs.run_dir import RunDir
from vqdist.tracking import prepare_sync
from vqdist.tracking.metric_rows import to_event
from vqdist.tracking.prepare_sync import find_missing, find_wandb_files, main, prepare
from vqdist.tracking.state import TrackingState
from vqdist.tracking.tracker import Tracker

SCRIPT = Path(__file__).parents[2] / "launch" / "wandb_sync.sh"
LAST_STEP = 20
real_read_wandb_file = prepare_sync.read_wandb_file
pytestmark = needs_proc


def train(path: Path, tracker: Tracker, first: int, last: int) -> None:
    """Log steps first + 1 to last, as the loop does: a train line every 2, validate and a picture every 4."""
    for step in range(first + 2, last + 1, 2):
        append_lines(path, train_line(step))
        if step % 4 == 0:
            append_lines(path, {"step": step, "samples": 16 * step, "split": "validate", "loss": 1.0, "ssim": 0.9})
            preview = RunDir(path).preview(step)
            preview.parent.mkdir(exist_ok=True)
            Image.new("L", (8, 8)).save(preview)
            tracker.log_pictures(step, {"previews": preview})


def resume(path: Path, step: int) -> Tracker:
    """Start an attempt that resumes from the checkpoint of a step."""
    run_dir = RunDir.claim(path)
    run_dir.truncate_records(step, eval_due=False)
    return start(path)


def kill(tracker: Tracker, core: int) -> None:
    """End everything at once, as a node that fails does."""
    for pid in (tracker._process.pid, core):
        os.kill(pid, signal.SIGKILL)
    tracker._process.wait()
    tracker._events.close()


def read_newest(path: Path) -> bytes:
    """Return the bytes of the newest .wandb file of two; charts are plain text in them."""
    files = find_wandb_files(RunDir(path))
    return files[-1].read_bytes() if len(files) == 2 else b""


@functools.cache
def read_once(path: Path, size: int) -> tuple[set[tuple[str, int]], bool]:
    return real_read_wandb_file(path)


def read_wandb_file(path: Path) -> tuple[set[tuple[str, int]], bool]:
    """Read a .wandb file once for all tests: every reading takes a process of W&B."""
    return read_once(path, path.stat().st_size)


@pytest.fixture(scope="module")
def quiet_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        forget_credentials(patch, tmp_path_factory.mktemp("home"))
        limit_finish(patch)
        patch.setattr(prepare_sync, "read_wandb_file", read_wandb_file)
        yield patch


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory, quiet_environment: pytest.MonkeyPatch) -> RunDir:
    """A run of three attempts: stopped at step 8; killed at 14, its last rows lost; from 12 on to the end."""
    path = tmp_path_factory.mktemp("runs") / "demo"
    tracker = start(path)
    train(path, tracker, 0, 8)
    tracker.finish("stopped", 75)
    tracker = resume(path, 8)
    train(path, tracker, 8, 10)
    wait_for(lambda: b"speed/samples_per_s" in read_newest(path))
    core = wait_for(lambda: find_core(tracker._process.pid))
    os.kill(core, signal.SIGSTOP)
    train(path, tracker, 10, 14)
    wait_for(lambda: read_sent(path)["train"] == 14 and read_sent(path)["pictures/previews"] == 12)
    kill(tracker, core)
    tracker = resume(path, 12)
    train(path, tracker, 12, LAST_STEP)
    (path / "dataset.json").write_text("{}")
    tracker.log_artifact("dataset", "images-1", path=path / "dataset.json", metadata={}, is_input=True)
    tracker.log_artifact("model", "vqvae-1", path=path / "previews", metadata={}, is_input=False)
    tracker.finish("finished", 0)
    (path / "status.json").write_text('{"state": "finished", "step": 20}')
    return RunDir(path)


def count_points(run_dir: RunDir) -> Counter[tuple[str, int]]:
    return Counter(point for path in find_wandb_files(run_dir) for point in read_wandb_file(path)[0])


def test_all_attempts_are_one_run(run_dir: RunDir) -> None:
    files = find_wandb_files(run_dir)[:3]
    assert len({path.name for path in files}) == 1
    assert [read_wandb_file(path)[1] for path in files] == [True, False, True]
    (run,) = [record["run"] for record in inspect_wandb_file(files[2]) if record["type"] == "run"]
    config = run["config"]["update"]
    assert config["task"] == "vqvae"
    assert config["environment"]["versions"]["wandb"]


def test_repeated_steps_are_not_sent_twice_and_lost_ones_are_missing(run_dir: RunDir) -> None:
    counts = count_points(run_dir)
    assert counts[("train/loss", 10)] == counts[("train/loss", 16)] == 1
    assert counts[("pictures/previews", 8)] == 1
    assert max(counts.values()) == 1
    rows = [to_event(record) for record in read_metrics(run_dir.metrics)]
    missing = find_missing(run_dir, rows, set(counts))
    assert {(event["do"], event["step"]) for event in missing} == {("row", 12), ("row", 14), ("picture", 12)}
    without = find_missing(run_dir, rows, set(counts), images=False)
    assert {(event["do"], event["step"]) for event in without} == {("row", 12), ("row", 14)}


def test_a_run_that_is_still_written_waits(
    run_dir: RunDir, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    files = find_wandb_files(run_dir)[:2]
    monkeypatch.setattr(prepare_sync, "find_wandb_files", lambda _: files)
    state = json.loads((run_dir.wandb / "tracking.json").read_text())
    for writer in ({"host": state["writer"]["host"], "pid": os.getpid()}, {"host": "another", "pid": 1}):
        (run_dir.wandb / "tracking.json").write_text(json.dumps(state | {"writer": writer}))
        os.utime(files[-1])
        assert prepare(run_dir) == files[:1]
        assert "still running" in capfd.readouterr().err
    (run_dir.wandb / "tracking.json").write_text(json.dumps(state))


def test_what_a_kill_lost_is_filled_in_once(run_dir: RunDir) -> None:
    files = prepare(run_dir)
    assert len(files) == 4
    assert prepare(run_dir) == files
    counts = count_points(run_dir)
    expected = {("train/loss", step) for step in range(2, LAST_STEP + 1, 2)}
    expected |= {
        (chart, step) for step in range(4, LAST_STEP + 1, 4) for chart in ("validate/ssim", "pictures/previews")
    }
    assert expected <= set(counts)
    assert max(counts.values()) == 1
    # The rows that were filled in are not the newest.
    summary: dict[str, float] = {}
    for record in inspect_wandb_file(files[-1]):
        summary.update(record.get("summary", {}).get("update", {}))
    assert summary["global_step"] == LAST_STEP
    assert summary["train/loss"] == 1 / LAST_STEP


def sync(run_dir: RunDir, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run launch/wandb_sync.sh; the server of the test is in the environment."""
    command = ["bash", str(SCRIPT), str(run_dir.path)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | environ, timeout=240)


@pytest.fixture
def server(quiet_environment: pytest.MonkeyPatch) -> Iterator[Server]:
    """A W&B server to which the environment leads."""
    with Server() as running:
        threading.Thread(target=running.serve_forever, args=[0.05], daemon=True).start()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("WANDB_BASE_URL", running.url)
            patch.setenv("WANDB_API_KEY", "a" * 40)
            patch.setenv("WANDB_ERROR_REPORTING", "false")
            patch.setenv("PYTHON", sys.executable)
            yield running
        running.shutdown()


def read_steps(lines: list[str]) -> Counter[int]:
    """Return how often the server has each step with a train loss; its rows are numbered without a gap."""
    rows = [json.loads(text) for text in lines]
    assert [row["_step"] for row in rows] == list(range(len(rows)))
    return Counter(row["global_step"] for row in rows if "train/loss" in row)


EVERY_STEP_ONCE = Counter(range(2, LAST_STEP + 1, 2))


def test_the_script_sends_every_file_in_order_and_once(run_dir: RunDir, server: Server) -> None:
    done = sync(run_dir)
    assert done.returncode == 0, done.stderr
    assert "nothing new to send" in sync(run_dir, DRY_RUN="1").stderr
    (lines,) = server.history.values()
    assert read_steps(lines) == EVERY_STEP_ONCE
    assert server.used == {"images-1"}
    assert server.made == {"images-1", "vqvae-1"}
    assert server.states[-1] == 0


def test_a_run_that_was_deleted_at_the_server_is_sent_under_a_new_id(run_dir: RunDir, server: Server) -> None:
    before = TrackingState.load(run_dir.wandb).id
    server.deleted.add(before)
    for mark in run_dir.wandb.glob("*/*.synced"):
        mark.unlink()
    refused = sync(run_dir, WANDB_X_GRAPHQL_RETRY_MAX="1")
    assert refused.returncode == 1
    assert f"HTTP 409: run me/vqdist/{before} was previously created and deleted" in refused.stderr.splitlines()[-2]
    assert f"NEW_ID=1 bash {SCRIPT} {run_dir.path}" in refused.stderr.splitlines()[-1]
    sent = sync(run_dir, NEW_ID="1")
    assert sent.returncode == 0, sent.stderr
    assert list(server.history) == [TrackingState.load(run_dir.wandb).id] != [before]
    assert read_steps(*server.history.values()) == EVERY_STEP_ONCE
    assert "nothing new to send" in sync(run_dir, DRY_RUN="1").stderr


def test_a_running_run_keeps_its_id(run_dir: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    files = find_wandb_files(run_dir)[:2]
    monkeypatch.setattr(prepare_sync, "find_wandb_files", lambda _: files)
    monkeypatch.setattr(TrackingState, "is_writer_alive", lambda _: True)
    with pytest.raises(DataError, match="still running"):
        prepare(run_dir, new_id=True)


def test_online_attempts_are_sent_only_under_another_id(
    run_dir: RunDir, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    copy = RunDir(shutil.copytree(run_dir.path, tmp_path / "run"))
    for folder in sorted(copy.wandb.glob("offline-run-*"))[:1]:
        folder.rename(folder.with_name(folder.name.removeprefix("offline-")))
    first = find_wandb_files(copy)[0]
    state = TrackingState.load(copy.wandb)
    state.id = first.stem.removeprefix("run-")
    state.save(copy.wandb)
    assert first not in prepare(copy)
    assert first in prepare(copy, new_id=True)


def test_a_folder_without_wandb_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no wandb/ in it"):
        main([str(tmp_path)])


def test_the_server_is_asked_first(tmp_path: Path, quiet_environment: pytest.MonkeyPatch) -> None:
    quiet_environment.setenv("PYTHON", sys.executable)
    quiet_environment.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    done = subprocess.run(["bash", str(SCRIPT), str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "http://127.0.0.1:9" in done.stderr
