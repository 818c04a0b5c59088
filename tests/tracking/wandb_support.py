"""What the tests of tracking share: an attempt of a run as the training loop makes it, and the processes behind it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from vqdist.config.loading import load_config
from vqdist.config.schema import RunConfig
from vqdist.runs.run_dir import RunDir
from vqdist.tracking import tracker as tracker_module
from vqdist.tracking.tracker import Tracker

needs_proc = pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="finds processes in /proc")
T = TypeVar("T")


def forget_credentials(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let neither the environment nor netrc lead a test to a real server."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(folder / "no-netrc"))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")


def limit_finish(monkeypatch: pytest.MonkeyPatch, limit_s: float = 120.0) -> None:
    """Let the end of a run wait another time for W&B; by default long enough for a busy machine."""
    monkeypatch.setattr(tracker_module, "FINISH_LIMIT_S", dict.fromkeys(("finished", "stopped", "failed"), limit_s))


def build_config(path: Path, mode: str = "offline", *, images: bool = True) -> RunConfig:
    """Return the configuration of a run in the directory `path`."""
    flags = [("run.dir", str(path.parent)), ("run.name", path.name), ("tracking.mode", mode)]
    config, problems = load_config(
        None, [*flags, ("tracking.project", "vqdist-tests"), ("tracking.images", str(images).lower())]
    )
    assert config is not None, problems
    return config


def start(path: Path, mode: str = "offline", *, images: bool = True) -> Tracker:
    """Start an attempt of a run as rank 0 does: claim the directory, then track it."""
    return Tracker(RunDir.claim(path), build_config(path, mode, images=images))


def train_line(step: int) -> dict[str, object]:
    """Return a line of metrics.jsonl."""
    return {"step": step, "samples": 16 * step, "split": "train", "loss": 1 / step, "perf": {"samples_per_s": 9.0}}


def append_lines(path: Path, *records: dict[str, object]) -> None:
    """Append lines to metrics.jsonl of a run."""
    with (path / "metrics.jsonl").open("a") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)


def read_sent(path: Path) -> dict[str, int]:
    """Return the last step sent of each stream."""
    try:
        return dict(json.loads((path / "wandb" / "tracking.json").read_text())["sent"])
    except OSError:
        return {}


def inspect_wandb_file(path: Path) -> list[dict[str, Any]]:
    """Return the records of a .wandb file as W&B reads them."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(path)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in answer.stdout.splitlines()]


def find_core(process_pid: int) -> int | None:
    """Return the pid of the wandb-core that a process has started."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0].endswith(b"wandb-core") and str(process_pid).encode() in words:
            return int(entry.parent.name)
    return None


def wait_for(find: Callable[[], T | None], limit_s: float = 120.0) -> T:
    """Return what is found, as soon as it is true."""
    deadline_s = time.monotonic() + limit_s
    while time.monotonic() < deadline_s:
        if found := find():
            return found
        time.sleep(0.05)
    raise TimeoutError(f"nothing found within {limit_s} s")
