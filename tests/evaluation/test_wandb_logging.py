"""The report of evaluate joins the W&B run of the training, if there is one, and never ends evaluate."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from wandb_support import append_lines, forget_credentials, limit_finish, start, train_line

from vqdist.evaluation.wandb_logging import flatten, publish
from vqdist.runs.run_dir import RunDir
from vqdist.tracking import tracker as tracker_module
from vqdist.tracking.prepare_sync import find_missing, find_wandb_files, read_wandb_file


@pytest.fixture(autouse=True)
def _no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    forget_credentials(monkeypatch, tmp_path)
    limit_finish(monkeypatch)


def write_run(path: Path, *, mode: str = "offline", state: str = "finished") -> Path:
    """Leave what a run of 20 steps leaves for this; tracked unless the mode says otherwise."""
    path.mkdir(exist_ok=True)
    names = {"dir": str(path.parent), "name": path.name}
    (path / "config.yaml").write_text(
        yaml.safe_dump({"run": names, "tracking": {"mode": mode, "project": "vqdist-tests"}})
    )
    (path / "status.json").write_text(json.dumps({"state": state, "step": 20}))
    return path


def write_report(folder: Path) -> dict[str, Any]:
    figure = folder / "reconstructions-test.png"
    Image.new("L", (8, 8)).save(figure)
    metrics = {"ssim": {"mean": 0.9, "low": 0.8, "high": None}}
    return {"split": "test", "samples": 9, "metrics": metrics, "figures": [str(figure)]}


def test_metrics_and_figures_join_the_run(tmp_path: Path) -> None:
    run = tmp_path / "run"
    tracker = start(run)
    append_lines(run, train_line(20))
    tracker.finish("finished", 0)
    write_run(run)
    before = json.loads((run / "wandb" / "tracking.json").read_text())
    report = write_report(tmp_path)
    for split in ("test", "train"):
        publish(run, report | {"split": split})
    files = find_wandb_files(RunDir(run))
    assert len({path.stem for path in files}) == 1
    added = [read_wandb_file(path) for path in files[1:]]
    points = set().union(*(found for found, _ in added))
    assert {("evaluate/test_ssim", 20), ("evaluate/test_ssim_low", 20), ("evaluate/train_ssim", 20)} <= points
    assert ("evaluate/reconstructions-test", 20) in points
    assert b"train/loss" in files[0].read_bytes()
    assert ("train/loss", 20) not in points
    assert all(has_ended for _, has_ended in added)
    after = json.loads((run / "wandb" / "tracking.json").read_text())
    assert (after["id"], after["start"], after["sent"]["train"]) == (before["id"], before["start"], 20)
    assert find_missing(RunDir(run), [], points) == []


@pytest.mark.parametrize("why", ["never tracked", "disabled", "no mode", "wrong config", "running", "cannot start"])
def test_nothing_is_sent_where_it_cannot_be(
    why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run", state="running" if why == "running" else "finished")
    if why != "never tracked":
        (run / "wandb").mkdir()
        known = {"id": "abc", "sent": {}, "job_ids": [], "start": {"project": "p"}, "writer": {}}
        (run / "wandb" / "tracking.json").write_text(json.dumps(known))
    if why == "wrong config":
        (run / "config.yaml").write_text("- 1")

    def fail(*_: object, **__: object) -> None:
        raise OSError("no more processes")

    monkeypatch.setattr(tracker_module.subprocess, "Popen", fail)
    environ = {"disabled": {"WANDB_MODE": "disabled"}, "no mode": {"WANDB_MODE": "onlin"}}.get(why, {})
    publish(run, write_report(tmp_path), environ)
    messages = {
        "no mode": "WANDB_MODE: found 'onlin'",
        "wrong config": "config.yaml",
        "running": "is running",
        "cannot start": "no more processes",
    }
    assert messages.get(why, "") in capfd.readouterr().err


def test_the_state_of_a_stopped_run_stays_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(tmp_path / "run", state="stopped")
    (run / "wandb").mkdir()
    known = {"id": "abc", "sent": {}, "job_ids": [], "start": {"project": "p"}, "writer": {}}
    (run / "wandb" / "tracking.json").write_text(json.dumps(known))
    command: list[Any] = []

    def fail(words: list[Any], **_: object) -> None:
        command.extend(words)
        raise OSError("no more processes")

    monkeypatch.setattr(tracker_module.subprocess, "Popen", fail)
    publish(run, write_report(tmp_path), {})
    first, *_ = [json.loads(line) for line in Path(command[-2]).read_text().splitlines()]
    assert first["config"] is None
    assert first["token"] == ""


def test_numbers_of_a_report_by_their_paths() -> None:
    report = {"ssim": {"mean": 0.5, "low": 0.25, "high": None}, "areas": {"brain": {"test": 1}}, "ok": True, "n": [1]}
    assert dict(flatten(report)) == {"ssim": 0.5, "ssim_low": 0.25, "areas_brain_test": 1}


@pytest.mark.parametrize("images", [True, False])
def test_the_samples_are_a_table_with_pictures_unless_none_are_sent(tmp_path: Path, images: bool) -> None:
    run = tmp_path / "run"
    start(run).finish("finished", 0)
    write_run(run)
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["tracking"]["images"] = images
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    rows = [{"file": f"s{number}.png", "slice": number, "bits_per_code": 2.5} for number in range(2)]
    for row in rows:
        Image.new("L", (8, 8)).save(tmp_path / str(row["file"]))
    publish(run, {"split": "test", "metrics": {}, "sample_table": rows}, samples=tmp_path)
    (table,) = run.glob("wandb/*run-*/files/media/table/evaluate/*.table.json")
    found = json.loads(table.read_text())
    assert found["columns"] == ["sample"] * images + ["file", "slice", "bits_per_code"]
    assert [row[images:] for row in found["data"]] == [["s0.png", 0, 2.5], ["s1.png", 1, 2.5]]
    assert not images or [row[0] for row in found["data"]] == ["Image", "Image"]
