"""What is kept in tracking.json: steps are sent once over all attempts, under one id."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vqdist.tracking import state as state_module
from vqdist.tracking.state import TrackingState


@pytest.fixture(autouse=True)
def _no_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_SWEEP_ID", "WANDB_RUN_ID"):
        monkeypatch.delenv(name, raising=False)


def test_a_step_is_claimed_once_over_all_attempts(tmp_path: Path) -> None:
    first = TrackingState.load(tmp_path)
    assert first.claim("train", 10)
    assert first.claim("validate", 10)
    assert not first.claim("train", 10)
    first.save(tmp_path)
    assert (tmp_path / "tracking.json").read_bytes().endswith(b"}\n")
    again = TrackingState.load(tmp_path)
    assert again == first
    assert not again.claim("train", 8)
    assert again.claim("train", 12)


def test_a_full_disk_forgets_nothing_within_an_attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(state_module, "write_atomic_json", fail)
    state = TrackingState.load(tmp_path)
    assert state.claim("train", 1)
    state.save(tmp_path)
    assert not state.claim("train", 1)


def test_the_file_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    start = {"project": "p", "entity": None, "group": None, "tags": [], "run_name": "demo", "job_type": "vqvae"}
    writer = {"host": "node-1", "pid": 7}
    old = {"format_version": 1, "id": "abc12345", "start": start, "job_ids": ["3"], "writer": writer}
    (tmp_path / "tracking.json").write_text(json.dumps(old | {"sent": {"train": 20, "pictures/previews": 10}}))
    state = TrackingState.load(tmp_path)
    assert (state.id, state.start, state.job_ids) == ("abc12345", start, ["3"])
    assert not state.claim("train", 20)
    assert not state.claim("pictures/previews", 10)
    assert state.is_writer_alive() is None


def test_the_id_is_that_of_the_files_if_tracking_json_is_lost(tmp_path: Path) -> None:
    folder = tmp_path / "offline-run-20260101_000000-abc12345"
    folder.mkdir()
    (folder / "run-abc12345.wandb").touch()
    assert TrackingState.load(tmp_path).id == "abc12345"


def test_the_environment_chooses_the_id_of_a_new_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert TrackingState.load(tmp_path).id != TrackingState.load(tmp_path).id
    monkeypatch.setenv("WANDB_RUN_ID", "r")
    state = TrackingState.load(tmp_path)
    assert state.id == "r"
    state.save(tmp_path)
    monkeypatch.setenv("WANDB_RUN_ID", "of-another-attempt")
    assert TrackingState.load(tmp_path).id == "r"


def test_the_last_writer_is_known(tmp_path: Path) -> None:
    state = TrackingState.load(tmp_path)
    assert state.is_writer_alive() is None
    state.save(tmp_path)
    assert json.loads((tmp_path / "tracking.json").read_text())["writer"]["pid"] == os.getpid()
    assert TrackingState.load(tmp_path).is_writer_alive() is True
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    state.writer["pid"] = ended.pid
    assert state.is_writer_alive() is False
