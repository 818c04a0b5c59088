"""The reporter's own parts: what was sent is known across starts, and a message stream may break off anywhere."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vqdist.tracking import sent
from vqdist.tracking.lifeline import read_messages
from vqdist.tracking.sent import SentSteps, new_run_id


def test_a_step_is_claimed_once_across_starts(tmp_path: Path) -> None:
    first = SentSteps(tmp_path)
    assert first.claim("train", 10)
    assert first.claim("validate", 10)
    assert not first.claim("train", 10)
    again = SentSteps(tmp_path)
    assert again.run_id == first.run_id
    assert not again.claim("train", 8)
    assert again.claim("train", 12)


def test_a_failed_call_gives_its_step_back(tmp_path: Path) -> None:
    steps = SentSteps(tmp_path)
    steps.claim("train", 5)
    steps.claim("train", 10)
    steps.release()
    steps.release()
    assert steps.claim("train", 10)
    assert not steps.claim("train", 5)


def test_a_full_disk_forgets_nothing_within_a_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sent, "write_atomic", fail)
    steps = SentSteps(tmp_path)
    assert steps.claim("train", 1)
    assert not steps.claim("train", 1)


def test_the_id_is_that_of_the_pieces_when_the_file_is_lost(tmp_path: Path) -> None:
    folder = tmp_path / "offline-run-20260101_000000-abc12345"
    folder.mkdir()
    (folder / "run-abc12345.wandb").touch()
    assert SentSteps(tmp_path).run_id == "abc12345"


def test_a_sweep_chooses_the_id() -> None:
    assert new_run_id({"WANDB_SWEEP_ID": "s", "WANDB_RUN_ID": "r"}) == "r"
    assert new_run_id({"WANDB_RUN_ID": "r"}) != "r"
    assert new_run_id({}) != new_run_id({})


def test_who_wrote_last_is_known(tmp_path: Path) -> None:
    steps = SentSteps(tmp_path)
    assert steps.writer_is_alive() is None
    steps.own()
    assert SentSteps(tmp_path).writer_is_alive() is True
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    steps.writer["pid"] = ended.pid
    assert steps.writer_is_alive() is False


def test_messages_end_where_a_kill_cut_them() -> None:
    stream = io.StringIO('{"do": "log"}\n{"do": "al')
    assert list(read_messages(stream, os.getppid())) == [{"do": "log"}]


def test_messages_end_when_training_is_gone() -> None:
    reader, writer = os.pipe()
    try:
        with os.fdopen(reader) as stream:
            os.write(writer, b'{"do": "log"}\n')
            messages = read_messages(stream, parent_pid=-1)
            assert next(messages) == {"do": "log"}
            assert list(messages) == []
            os.close(writer)
            writer = -1
    finally:
        if writer >= 0:
            os.close(writer)
