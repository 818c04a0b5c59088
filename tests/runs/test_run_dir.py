"""The run directory: its records and its owner."""

from pathlib import Path

import pytest
from support import digests, read_records

from vqdist.foundation.atomic_files import reporting_storage_errors
from vqdist.foundation.errors import OwnershipError, StorageError
from vqdist.foundation.json_lines import JsonLinesFile
from vqdist.foundation.run_status import read_status
from vqdist.runs.run_dir import OWNER_RETRIES_S, RunDir


def test_records_are_truncated_to_the_checkpoint(tmp_path: Path) -> None:
    run = RunDir.claim(tmp_path / "run")
    metrics, ledger = JsonLinesFile(run.metrics, run.check_owner), JsonLinesFile(run.ledger(3), run.check_owner)
    for step in (5, 10, 15):
        metrics.append({"step": step, "split": "train"})
        metrics.append({"step": step, "split": "validate"})
        ledger.append({"step": step, "keys": []})
    metrics.close()
    ledger.close()
    run.truncate_records(10, eval_due=False)
    assert [line["step"] for line in read_records(run.metrics)] == [5, 5, 10, 10]
    run.truncate_records(10, eval_due=True)
    lines = [(line["step"], line["split"]) for line in read_records(run.metrics)]
    assert lines == [(5, "train"), (5, "validate"), (10, "train")]
    assert [line["step"] for line in read_records(run.ledger(3))] == [5, 10]


def test_only_the_newest_owner_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    older = RunDir.claim(tmp_path / "run")
    lines = JsonLinesFile(older.metrics, older.check_owner)
    lines.append({"step": 1})
    older.write_status("running", 1)
    names = (".status.json.123.tmp", ".metrics.jsonl.123.tmp", "ledger/.rank-0.jsonl.123.tmp")
    left_behind = [tmp_path / "run" / name for name in names]
    left_behind[-1].parent.mkdir()
    for path in left_behind:
        path.touch()
    left_behind.append(tmp_path / "run" / ".model.123.tmp")
    (left_behind[-1] / "config.json").parent.mkdir()
    (left_behind[-1] / "config.json").touch()
    newer = RunDir.claim(tmp_path / "run")
    assert not any(path.exists() for path in left_behind)
    before = digests(tmp_path)
    for write in (
        lambda: lines.append({"step": 2}),
        lambda: older.write_status("finished", 2),
        lambda: older.write_config("x"),
        lambda: older.truncate_records(0, eval_due=False),
    ):
        with pytest.raises(OwnershipError, match="a newer process owns this run"):
            write()
    assert digests(tmp_path) == before
    newer.write_status("running", 5)
    assert read_status(tmp_path / "run") == {"state": "running", "step": 5}
    owner = newer.owner
    contents = owner.read_text()
    pauses: list[float] = []
    monkeypatch.setattr("time.sleep", pauses.append)
    owner.write_text("")
    with pytest.raises(OwnershipError, match="cannot read which process owns this run"):
        newer.check_owner()
    assert tuple(pauses) == OWNER_RETRIES_S
    monkeypatch.setattr("time.sleep", lambda _: owner.write_text(contents))
    newer.check_owner()  # readable again after the last pause
    owner.unlink()
    with pytest.raises(OwnershipError, match="cannot read which process owns this run"):
        newer.check_owner()
    lines.close()


def test_a_folder_that_cannot_be_created_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(StorageError, match=r"file/run cannot be written: .*Not a directory"),
        reporting_storage_errors(tmp_path / "file/run"),
    ):
        RunDir.claim(tmp_path / "file/run")


def test_layout(tmp_path: Path) -> None:
    """The names of the files are part of the format of a run."""
    run = RunDir(tmp_path)
    paths = (run.config, run.status, run.owner, run.metrics, run.checkpoints, run.model, run.previews, run.figures)
    paths += (run.ledger(2), run.preview(40), run.wandb, run.stop_file)
    assert [str(path.relative_to(tmp_path)) for path in paths] == [
        *("config.yaml", "status.json", "owner.json", "metrics.jsonl", "checkpoints", "model", "previews", "figures"),
        *("ledger/rank-2.jsonl", "previews/step-00000040.png", "wandb", "STOP"),
    ]
    with pytest.raises(OwnershipError):
        run.write_status("running", 1)
