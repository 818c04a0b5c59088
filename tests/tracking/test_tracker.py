"""The side of training: it neither imports W&B nor waits for it, whatever W&B does."""

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from wandb_support import (
    append_lines,
    build_config,
    find_core,
    forget_credentials,
    limit_finish,
    needs_proc,
    start,
    train_line,
    wait_for,
)

from vqdist.config.schema import RunConfig
from vqdist.runs.run_dir import RunDir
from vqdist.tracking import tracker as tracker_module
from vqdist.tracking.tracker import MAX_BINS, Tracker, make_folder, propose_sync


@pytest.fixture(autouse=True)
def _no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    forget_credentials(monkeypatch, tmp_path)


def replace_wandb(monkeypatch: pytest.MonkeyPatch, folder: Path, body: str) -> None:
    """Put a module named wandb before the real one, for the process that makes the W&B calls."""
    (folder / "fake").mkdir()
    (folder / "fake" / "wandb.py").write_text(body)
    monkeypatch.syspath_prepend(folder / "fake")


def log_much(tracker: Tracker, path: Path) -> None:
    """Log more than a pipe or a queue would hold."""
    for step in range(1, 3001):
        append_lines(path, train_line(step))
        tracker.log_histogram(step, "codebook/usage", [1.0] * 64)


def read_events(path: Path) -> list[dict[str, Any]]:
    """Return the events of the only attempt, without its start."""
    (file,) = path.glob("wandb/events-*.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()[1:]]


class Ended:
    """Stands for a process that has done its work."""

    returncode = 0

    def __init__(self, *_: object, **__: object) -> None:
        self.stdout = io.BytesIO()

    def wait(self, timeout: float | None = None) -> int:
        return 0


@pytest.fixture
def no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracker_module.subprocess, "Popen", Ended)


@pytest.mark.parametrize("is_main", [True, False])
def test_nothing_is_written_where_nothing_is_sent(tmp_path: Path, is_main: bool) -> None:
    tracker = Tracker(RunDir(tmp_path, "token"), build_config(tmp_path, "disabled") if is_main else None)
    tracker.log_pictures(1, {"previews": tmp_path / "none.png"})
    tracker.log_histogram(1, "codebook/usage", [1, 2])
    tracker.log_artifact("model", "m", path=tmp_path, metadata={}, is_input=False)
    tracker.log_row({"a": 1.0})
    tracker.finish("finished", 0)
    assert not tracker.active
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("no_process")
@pytest.mark.parametrize("num_codes", [1, 7, 256, 257, 512, 16_384])
def test_the_histogram_keeps_every_count(tmp_path: Path, num_codes: int) -> None:
    counts = np.random.default_rng(0).integers(0, 9, num_codes)
    tracker = start(tmp_path)
    tracker.log_histogram(3, "codebook/usage", counts.tolist())
    tracker.finish("finished", 0)
    event = read_events(tmp_path)[0]
    sums, edges = event["sums"], event["edges"]
    assert (event["stream"], event["step"]) == ("codebook/usage", 3)
    assert len(edges) == len(sums) + 1 <= MAX_BINS + 1
    assert (edges[0], edges[-1]) == (0, num_codes)
    expected, _ = np.histogram(np.arange(num_codes), bins=edges, weights=counts)
    np.testing.assert_array_equal(sums, expected)


@pytest.mark.usefixtures("no_process")
@pytest.mark.parametrize("images", [True, False])
def test_pictures_are_logged_unless_the_configuration_excludes_them(tmp_path: Path, images: bool) -> None:
    tracker = start(tmp_path, images=images)
    tracker.log_pictures(3, {"previews": tmp_path / "a.png"})
    tracker.log_row({"a": 1.0})
    tracker.finish("finished", 0)
    assert [event["do"] for event in read_events(tmp_path)] == ["picture"] * images + ["row", "finish"]


@pytest.mark.usefixtures("no_process")
def test_an_attempt_removes_the_events_of_a_killed_one(tmp_path: Path) -> None:
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb" / "events-0.jsonl").write_text("{}\n")
    (tmp_path / "wandb" / ".tracking.json.tmp-01234567").touch()
    tracker = Tracker(RunDir(tmp_path), build_config(tmp_path), has_ended=True)
    tracker.finish("finished", 0)
    assert (tmp_path / "wandb" / "events-0.jsonl").exists()
    start(tmp_path).finish("finished", 0)
    assert read_events(tmp_path) == [{"do": "finish", "state": "finished", "exit_code": 0}]
    assert not (tmp_path / "wandb" / ".tracking.json.tmp-01234567").exists()


@pytest.mark.usefixtures("no_process")
def test_an_event_that_is_no_json_is_reported(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tracker = start(tmp_path)
    loop: dict[str, object] = {}
    loop["self"] = loop
    tracker.log_artifact("model", "m", path=tmp_path, metadata=loop, is_input=False)
    tracker.finish("failed", 1)
    assert "W&B: artifact not logged" in capfd.readouterr().err


def test_a_folder_that_cannot_be_written_is_reported(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "wandb").write_text("a file")
    tracker = start(tmp_path)
    assert not tracker.active
    assert "W&B: not started" in capfd.readouterr().err


def test_training_does_not_import_wandb(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from wandb_support import append_lines, start, train_line
run = Path(sys.argv[1])
tracker = start(run)
append_lines(run, train_line(1))
tracker.log_histogram(1, "codebook/usage", [1, 2])
tracker.finish("finished", 0)
sys.exit("wandb" in sys.modules or "torch" in sys.modules)
"""
    command = [sys.executable, "-W", "error", "-c", program, str(tmp_path), str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))
    assert not list(tmp_path.glob("wandb/events-*"))


def test_training_does_not_wait_for_a_call_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    replace_wandb(monkeypatch, tmp_path, "import time\ntime.sleep(1000)\n")
    limit_finish(monkeypatch, 0.5)
    tracker = start(tmp_path / "run")
    log_much(tracker, tmp_path / "run")
    assert tracker._process.poll() is None
    tracker.finish("finished", 0)
    assert tracker._process.returncode == -signal.SIGKILL
    assert "wandb_sync.sh" in capfd.readouterr().err


def test_a_training_that_crashes_beside_a_call_that_hangs_still_ends(tmp_path: Path) -> None:
    (tmp_path / "wandb.py").write_text("import time\ntime.sleep(1000)\n")
    program = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from wandb_support import start
tracker = start(Path(sys.argv[1]))
for step in range(1, 1001):
    tracker.log_histogram(step, "codebook/usage", [1.0] * 64)
print(tracker._process.pid)
sys.exit(7)
"""
    folders = [str(tmp_path / "run"), str(Path(__file__).parent), str(tmp_path)]
    done = subprocess.run([sys.executable, "-c", program, *folders], capture_output=True, check=False)
    assert done.returncode == 7, done.stderr
    os.kill(int(done.stdout), signal.SIGKILL)


@pytest.mark.parametrize(
    "body", ["raise RuntimeError('broken')", "import os\nos._exit(9)", "class Settings: pass\ndef init(**_): 1 / 0"]
)
def test_a_wandb_that_breaks_is_survived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], body: str
) -> None:
    replace_wandb(monkeypatch, tmp_path, body)
    tracker = start(tmp_path / "run")
    log_much(tracker, tmp_path / "run")
    tracker.finish("finished", 0)
    assert tracker._process.returncode > 0
    assert "wandb_sync.sh" in capfd.readouterr().err


def test_a_killed_process_is_survived(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tracker = start(tmp_path)
    tracker._process.kill()
    log_much(tracker, tmp_path)
    tracker.finish("finished", 0)
    assert "wandb_sync.sh" in capfd.readouterr().err


def test_a_full_disk_is_survived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    class FullDisk:
        """Accepts nothing."""

        def write(self, _: bytes) -> int:
            raise OSError(28, "No space left on device")

        def close(self) -> None:
            pass

    replace_wandb(monkeypatch, tmp_path, "import time\ntime.sleep(1000)\n")
    tracker = start(tmp_path / "run")
    tracker._events._file.close()
    monkeypatch.setattr(tracker._events, "_file", FullDisk())
    log_much(tracker, tmp_path / "run")
    tracker.finish("finished", 0)
    assert tracker._process.returncode == -signal.SIGKILL
    assert "wandb_sync.sh" in capfd.readouterr().err


@pytest.fixture
def stopped_cores() -> Iterator[list[int]]:
    """Core processes that a test has stopped; killed after the test."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


@needs_proc
def test_a_core_process_that_hangs_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped_cores: list[int]
) -> None:
    limit_finish(monkeypatch, 0.5)
    tracker = start(tmp_path)
    pid = tracker._process.pid
    stopped_cores.append(wait_for(lambda: find_core(pid)))
    os.kill(stopped_cores[0], signal.SIGSTOP)
    log_much(tracker, tmp_path)
    tracker.finish("stopped", 75)
    assert tracker._process.returncode == -signal.SIGKILL


def test_a_command_is_named_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tracker_module.SYNC_SCRIPT.parents[1])
    assert propose_sync(Path("runs/my run")) == "bash launch/wandb_sync.sh 'runs/my run'"
    monkeypatch.chdir(tmp_path)
    assert propose_sync(Path("runs/demo")) == f"bash {tracker_module.SYNC_SCRIPT} runs/demo"
    monkeypatch.setattr(tracker_module, "SYNC_SCRIPT", tmp_path / "wandb_sync.sh")
    assert propose_sync(Path("runs/demo")) == "wandb sync --include-online runs/demo/wandb/*run-*"


@pytest.mark.usefixtures("no_process")
def test_the_environment_names_the_run_where_no_key_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_placement(config: RunConfig) -> dict[str, Any]:
        tracker = Tracker(RunDir(tmp_path / "run"), config)
        (file,) = (tmp_path / "run" / "wandb").glob("events-*.jsonl")
        tracker.finish("finished", 0)
        placement: dict[str, Any] = json.loads(file.read_text().splitlines()[0])["placement"]
        file.unlink()
        return placement

    config = build_config(tmp_path / "run")
    assert read_placement(config).items() >= {"run_name": "run", "job_type": "vqvae"}.items()
    monkeypatch.setenv("WANDB_JOB_TYPE", "tuning")
    found = read_placement(config.replace("tracking", name="My run"))
    assert found.items() >= {"run_name": "My run", "job_type": "tuning", "project": "vqdist-tests"}.items()
    assert "name" not in found


def test_the_files_of_wandb_are_where_wandb_dir_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [tmp_path / runs / "mine" / "wandb" for runs in ("a", "b")]
    for folder in folders:
        make_folder(folder, {"WANDB_DIR": str(tmp_path / "scratch")})
        make_folder(folder, {})  # another attempt
        (folder / "tracking.json").write_text(str(folder))
    places = [folder.resolve() for folder in folders]
    assert len(set(places)) == 2
    assert {place.parent for place in places} == {tmp_path / "scratch" / "wandb"}
    monkeypatch.chdir(tmp_path)
    make_folder(tmp_path / "c" / "wandb", {"WANDB_DIR": str(tmp_path), "WANDB_SWEEP_ID": "s"})
    assert not (tmp_path / "c" / "wandb").is_symlink()
