"""What the tests of tracking share: a run's start as the loop makes it, and the processes behind it."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from vqdist.tracking.tracker import Tracker, start_tracker

needs_proc = pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="finds processes in /proc")


@dataclass(frozen=True)
class Settings:
    """Stands for the tracking section of a configuration."""

    mode: str = "offline"
    project: str = "vqdist-tests"
    entity: str | None = None
    group: str | None = None
    tags: tuple[str, ...] = ()


def forget_credentials(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let neither the environment nor netrc lead a test to a real server."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(folder / "no-netrc"))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")


def start(run_dir: Path, mode: str = "offline", *, is_main: bool = True, resumed_step: int = 0) -> Tracker:
    """Start to track a run as the training loop does."""
    return start_tracker(
        run_dir,
        Settings(mode),
        run_name="demo",
        config={"task": "vqvae"},
        job_type="vqvae",
        is_main=is_main,
        resumed_step=resumed_step,
    )


def train_line(step: int) -> dict[str, object]:
    """Return a line of metrics.jsonl."""
    return {"step": step, "samples": 16 * step, "split": "train", "loss": 1 / step, "perf": {"samples_per_s": 9.0}}


def find_core(reporter_pid: int) -> int | None:
    """Return the pid of the core process that the reporter has started."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0].endswith(b"wandb-core") and str(reporter_pid).encode() in words:
            return int(entry.parent.name)
    return None


def wait_for(find: Callable[[], int | None], limit_s: float = 20.0) -> int:
    """Return what is found, as soon as there is something."""
    deadline_s = time.monotonic() + limit_s
    while time.monotonic() < deadline_s:
        if found := find():
            return found
        time.sleep(0.05)
    raise TimeoutError(f"nothing found within {limit_s} s")
