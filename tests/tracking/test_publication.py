"""What evaluate finds joins the W&B run of the training, if there is one, and never ends evaluate."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from wandb_support import forget_credentials, start, train_line

from vqdist.tracking import tracker as tracking
from vqdist.tracking.publication import flatten, publish
from vqdist.tracking.sync import find_fragments, find_lost


@pytest.fixture(autouse=True)
def _no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    forget_credentials(monkeypatch, tmp_path)


def write_run(run: Path, *, mode: str = "offline", state: str = "finished") -> Path:
    """Leave what a run of 20 steps leaves for this; tracked unless the mode says otherwise."""
    run.mkdir()
    (run / "config.yaml").write_text(yaml.safe_dump({"tracking": {"mode": mode}}))
    (run / "status.json").write_text(json.dumps({"state": state, "step": 20}))
    return run


def write_report(folder: Path) -> dict[str, Any]:
    figure = folder / "reconstructions-test.png"
    Image.new("L", (8, 8)).save(figure)
    metrics = {"ssim": {"mean": 0.9, "low": 0.8, "high": None}}
    return {"split": "test", "samples": 9, "metrics": metrics, "figures": [str(figure)]}


def test_metrics_and_figures_join_the_run(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    tracker = start(run)
    tracker.log(train_line(20))
    tracker.finish("finished", 0)
    before = json.loads((run / "wandb" / "tracking.json").read_text())
    report = write_report(tmp_path)
    for split in ("test", "train"):
        publish(run, report | {"split": split})
    pieces = find_fragments(run)
    assert len({piece.path.stem for piece in pieces}) == 1
    points = frozenset().union(*(piece.points for piece in pieces[1:]))
    assert {("evaluate/test_ssim", 20), ("evaluate/test_ssim_low", 20), ("evaluate/train_ssim", 20)} <= points
    assert ("evaluate/reconstructions-test", 20) in points
    assert all(piece.ended for piece in pieces)
    after = json.loads((run / "wandb" / "tracking.json").read_text())
    assert after["id"] == before["id"]
    assert after["start"] == before["start"]
    assert find_lost(run, pieces) == []


@pytest.mark.parametrize("why", ["never tracked", "disabled", "no mode", "running", "cannot start"])
def test_nothing_is_sent_where_it_cannot_be(
    why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run", state="running" if why == "running" else "finished")
    if why != "never tracked":
        (run / "wandb").mkdir()
        known = {"id": "abc", "sent": {}, "job_ids": [], "start": {"project": "p"}, "writer": {}}
        (run / "wandb" / "tracking.json").write_text(json.dumps(known))

    def fail(*_: object, **__: object) -> None:
        raise OSError("no more processes")

    monkeypatch.setattr(tracking.subprocess, "Popen", fail)
    environ = {"disabled": {"WANDB_MODE": "disabled"}, "no mode": {"WANDB_MODE": "onlin"}}.get(why, {})
    publish(run, write_report(tmp_path), environ)
    said = {"no mode": "WANDB_MODE: found 'onlin'", "running": "is running", "cannot start": "no more processes"}
    assert said.get(why, "") in capfd.readouterr().err


def test_numbers_of_a_report_by_their_paths() -> None:
    report = {"ssim": {"mean": 0.5, "low": 0.25, "high": None}, "areas": {"brain": {"test": 1}}, "ok": True, "n": [1]}
    assert dict(flatten(report)) == {"ssim": 0.5, "ssim_low": 0.25, "areas_brain_test": 1}
