"""The side of training: it neither imports W&B nor waits for it, whatever W&B does."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from wandb_support import find_core, forget_credentials, needs_proc, start, train_line, wait_for

from vqdist.foundation.errors import ConfigError
from vqdist.tracking import tracker as tracking
from vqdist.tracking.rows import to_row
from vqdist.tracking.tracker import bin_usage, resolve_mode


@pytest.fixture(autouse=True)
def _no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    forget_credentials(monkeypatch, tmp_path)


def install_fake_wandb(monkeypatch: pytest.MonkeyPatch, folder: Path, body: str) -> None:
    """Put a module named wandb before the real one, for the reporter's process."""
    (folder / "fake").mkdir()
    (folder / "fake" / "wandb.py").write_text(body)
    root = str(Path(tracking.__file__).parents[2])
    real = tracking.build_environment

    def build(folder_: Path) -> dict[str, str]:
        return {**real(folder_), "PYTHONPATH": os.pathsep.join([str(folder / "fake"), root])}

    monkeypatch.setattr(tracking, "build_environment", build)


@pytest.mark.parametrize(
    ("flag", "environ", "file", "mode"),
    [
        (None, {}, None, "auto"),
        (None, {}, "offline", "offline"),
        (None, {"WANDB_MODE": "online"}, "offline", "online"),
        ("disabled", {"WANDB_MODE": "online"}, "offline", "disabled"),
        (None, {"WANDB_MODE": "dryrun"}, None, "offline"),
        (None, {"WANDB_MODE": ""}, "online", "online"),
        (None, {"WANDB_DISABLED": "true", "WANDB_MODE": "online"}, "auto", "disabled"),
        ("auto", {"WANDB_DISABLED": "true"}, None, "auto"),
    ],
)
def test_flag_beats_environment_beats_file(
    flag: str | None, environ: dict[str, str], file: str | None, mode: str
) -> None:
    assert resolve_mode(flag, environ, file) == mode


def test_a_mode_that_is_none_is_named() -> None:
    with pytest.raises(ConfigError, match="WANDB_MODE: found 'onlin'"):
        resolve_mode(None, {"WANDB_MODE": "onlin"}, "auto")


def test_a_line_of_metrics_goes_to_its_sections() -> None:
    record = {
        "step": 20,
        "samples": 320,
        "split": "validate",
        "loss": 0.5,
        "ssim": 0.9,
        "perplexity": 11.0,
        "bits_per_code": 3.0,
        "note": "not a number",
        "perf": {"seconds": 2.0, "memory_gib": 1.5},
    }
    assert to_row(record) == {
        "global_step": 20,
        "samples": 320,
        "validate/loss": 0.5,
        "validate/ssim": 0.9,
        "codebook/perplexity_validate": 11.0,
        "prior/bits_per_code_validate": 3.0,
        "speed/seconds_validate": 2.0,
        "system/memory_gib_validate": 1.5,
    }


@pytest.mark.parametrize("num_codes", [1, 7, 256, 257, 512, 16_384])
def test_binning_usage_keeps_every_count(num_codes: int) -> None:
    counts = np.random.default_rng(0).integers(0, 9, num_codes)
    sums, edges = bin_usage(counts.tolist())
    assert sum(sums) == counts.sum()
    assert len(edges) == len(sums) + 1 <= tracking.MAX_BINS + 1
    assert (edges[0], edges[-1]) == (0, num_codes)
    expected, _ = np.histogram(np.arange(num_codes), bins=edges, weights=counts)
    np.testing.assert_array_equal(sums, expected)


@pytest.mark.parametrize(("mode", "is_main"), [("disabled", True), ("online", False)])
def test_quiet_where_there_is_nothing_to_tell(tmp_path: Path, mode: str, is_main: bool) -> None:
    tracker = start(tmp_path, mode, is_main=is_main)
    tracker.log(train_line(1))
    tracker.log_pictures(1, {"previews": tmp_path / "none.png"})
    tracker.log_histogram(1, "codebook/usage", [1, 2])
    tracker.log_artifact("model", "m", folder=tmp_path)
    tracker.alert("title", "text")
    tracker.finish("finished", 0)
    assert not tracker.active
    assert list(tmp_path.iterdir()) == []


def test_training_does_not_import_wandb(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from wandb_support import start, train_line
tracker = start(Path(sys.argv[1]))
tracker.log(train_line(1))
tracker.finish("finished", 0)
sys.exit("wandb" in sys.modules or "torch" in sys.modules)
"""
    command = [sys.executable, "-W", "error", "-c", program, str(tmp_path), str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))


def test_a_call_that_hangs_costs_training_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    install_fake_wandb(monkeypatch, tmp_path, "import time\ntime.sleep(1000)\n")
    monkeypatch.setattr(tracking, "QUEUE_SIZE", 100)
    tracker = start(tmp_path / "run")
    before = time.perf_counter()
    for step in range(1, 5001):
        tracker.log(train_line(step))
    assert time.perf_counter() - before < 2.0
    before = time.perf_counter()
    tracker.finish("finished", 0, limit_s=0.5)
    assert time.perf_counter() - before < 3.0
    assert "wandb_sync.sh" in capfd.readouterr().err


def test_a_training_that_crashes_beside_a_call_that_hangs_still_ends(tmp_path: Path) -> None:
    (tmp_path / "wandb.py").write_text("import time\ntime.sleep(1000)\n")
    program = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from vqdist.tracking import tracker as tracking
real = tracking.build_environment
tracking.build_environment = lambda folder: {**real(folder), "PYTHONPATH": sys.argv[3] + ":" + sys.argv[4]}
from wandb_support import start, train_line
tracker = start(Path(sys.argv[1]))
for step in range(1, 5001):
    tracker.log(train_line(step))
sys.exit(7)
"""
    root = str(Path(tracking.__file__).parents[2])
    folders = [str(tmp_path / "run"), str(Path(__file__).parent), str(tmp_path), root]
    done = subprocess.run([sys.executable, "-c", program, *folders], capture_output=True, check=False, timeout=60)
    assert done.returncode == 7, done.stderr


@pytest.mark.parametrize(
    "body", ["raise RuntimeError('broken')", "import os\nos._exit(9)", "class Settings: pass\ndef init(**_): 1 / 0"]
)
def test_a_wandb_that_breaks_is_survived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], body: str
) -> None:
    install_fake_wandb(monkeypatch, tmp_path, body)
    tracker = start(tmp_path / "run")
    for step in range(1, 200):
        tracker.log(train_line(step))
    tracker.finish("finished", 0, limit_s=10.0)
    assert "wandb_sync.sh" in capfd.readouterr().err


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "wandb").write_text("a file")
    tracker = start(tmp_path)
    assert not tracker.active
    assert "the run goes on without it" in capfd.readouterr().err


def test_a_record_that_cannot_be_sent_is_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tracker = start(tmp_path)
    loop: dict[str, object] = {"step": 1}
    loop["self"] = loop
    tracker.log(loop)
    assert "W&B: log failed" in capfd.readouterr().err
    tracker.finish("failed", 1, limit_s=0.0)


@pytest.fixture
def orphans() -> Iterator[list[int]]:
    """Core processes that a test has stopped; ended for good behind it."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


@needs_proc
def test_a_killed_core_process_is_replaced(tmp_path: Path) -> None:
    tracker = start(tmp_path)
    tracker.log(train_line(1))
    assert tracker._reporter is not None
    pid = tracker._reporter._process.pid
    core = wait_for(lambda: find_core(pid))
    wait_for(lambda: len(list(tmp_path.glob("wandb/offline-run-*/*.wandb"))))
    os.kill(core, signal.SIGKILL)
    for step in range(2, 30):
        tracker.log(train_line(step))
        time.sleep(0.01)
    tracker.finish("finished", 0)
    assert "ConnectionResetError" in (tmp_path / "wandb" / "reporter.log").read_text()
    files = list(tmp_path.glob("wandb/offline-run-*/*.wandb"))
    assert len(files) == 2
    assert len({file.name for file in files}) == 1
    assert json.loads((tmp_path / "wandb" / "tracking.json").read_text())["sent"] == {"train": 29}


@needs_proc
def test_a_core_process_that_hangs_is_left_behind(tmp_path: Path, orphans: list[int]) -> None:
    tracker = start(tmp_path)
    assert tracker._reporter is not None
    pid = tracker._reporter._process.pid
    orphans.append(wait_for(lambda: find_core(pid)))
    os.kill(orphans[0], signal.SIGSTOP)
    before = time.perf_counter()
    for step in range(1, 1000):
        tracker.log(train_line(step))
    tracker.finish("stopped", 75, limit_s=0.5)
    assert time.perf_counter() - before < 3.0


@needs_proc
def test_a_killed_reporter_is_survived(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tracker = start(tmp_path)
    assert tracker._reporter is not None
    tracker._reporter._process.kill()
    for step in range(1, 1000):
        tracker.log(train_line(step))
    tracker.finish("finished", 0)
    assert "wandb_sync.sh" in capfd.readouterr().err
