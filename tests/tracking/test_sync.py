"""A run that was requeued twice, once after a kill: in W&B it is one run with every step once."""

import json
import os
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
from wandb_support import find_core, forget_credentials, needs_proc, start, train_line, wait_for

from vqdist.foundation.errors import DataError
from vqdist.tracking.sync import find_fragments, find_lost, inspect_file, main, prepare
from vqdist.tracking.tracker import Tracker

SCRIPT = Path(__file__).parents[2] / "launch" / "wandb_sync.sh"
LAST_STEP = 20
pytestmark = needs_proc


def train(run_dir: Path, tracker: Tracker, first: int, last: int) -> None:
    """Tell steps first + 1 to last, as the loop does: a train line every 2, validate and a picture every 4."""
    metrics = run_dir / "metrics.jsonl"
    kept = [text for text in metrics.read_text().splitlines() if json.loads(text)["step"] <= first] if first else []
    with metrics.open("w") as file:
        file.writelines(text + "\n" for text in kept)
        for step in range(first + 2, last + 1, 2):
            records = [train_line(step)]
            if step % 4 == 0:
                records.append({"step": step, "samples": 16 * step, "split": "validate", "loss": 1.0, "ssim": 0.9})
            for record in records:
                file.write(json.dumps(record) + "\n")
                tracker.log(record)
            if step % 4 == 0:
                path = run_dir / "previews" / f"step-{step:08d}.png"
                path.parent.mkdir(exist_ok=True)
                Image.new("L", (8, 8)).save(path)
                tracker.log_pictures(step, {"previews": path})


def kill(tracker: Tracker) -> None:
    """End everything at once, as a node that goes down does."""
    assert tracker._reporter is not None
    process = tracker._reporter._process
    core = wait_for(lambda: find_core(process.pid))
    for pid in (process.pid, core):
        os.kill(pid, signal.SIGKILL)
    process.wait()


def read_newest(run_dir: Path) -> bytes:
    """Return the bytes of the newest piece; charts stand in them as plain text."""
    files = sorted((run_dir / "wandb").glob("offline-run-*/*.wandb"), key=lambda file: file.parent.name)
    return files[-1].read_bytes() if len(files) == 2 else b""


@pytest.fixture(scope="module")
def quiet_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        forget_credentials(patch, tmp_path_factory.mktemp("home"))
        yield patch


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory, quiet_environment: pytest.MonkeyPatch) -> Path:
    """A run in three starts: stopped at step 8; killed at 14, its last rows lost; from 12 on to the end."""
    path = tmp_path_factory.mktemp("runs") / "demo"
    path.mkdir()
    tracker = start(path, "auto")
    train(path, tracker, 0, 8)
    tracker.finish("stopped", 75)
    tracker = start(path, resumed_step=8)
    train(path, tracker, 8, 10)
    assert tracker._reporter is not None
    wait_for(lambda: b"speed/samples_per_s" in read_newest(path))
    os.kill(wait_for(lambda: find_core(tracker._reporter._process.pid)), signal.SIGSTOP)
    train(path, tracker, 10, 14)
    wait_for(lambda: json.loads((path / "wandb" / "tracking.json").read_text())["sent"]["train"] == 14)
    kill(tracker)
    tracker = start(path, resumed_step=12)
    train(path, tracker, 12, LAST_STEP)
    tracker.log_artifact("model", "vqvae-1", folder=path / "previews", uses=[{"kind": "dataset", "name": "images-1"}])
    tracker.finish("finished", 0)
    (path / "status.json").write_text('{"state": "finished", "step": 20}')
    return path


def count_points(run_dir: Path) -> Counter[tuple[str, int]]:
    return Counter(point for piece in find_fragments(run_dir) for point in piece.points)


def test_all_starts_are_one_run(run_dir: Path) -> None:
    pieces = find_fragments(run_dir)[:3]
    assert len({piece.path.name for piece in pieces}) == 1
    assert [piece.ended for piece in pieces] == [True, False, True]
    (run,) = [record["run"] for record in inspect_file(pieces[2].path) if record["type"] == "run"]
    config = run["config"]["update"]
    assert config["task"] == "vqvae"
    assert config["environment"]["versions"]["wandb"]


def test_replayed_steps_are_not_sent_twice(run_dir: Path) -> None:
    counts = count_points(run_dir)
    assert counts[("train/loss", 10)] == counts[("train/loss", 16)] == 1
    assert counts[("pictures/previews", 8)] == 1
    assert max(counts.values()) == 1


def test_what_a_kill_lost_is_filled_in_once(run_dir: Path) -> None:
    lost = find_lost(run_dir, find_fragments(run_dir)[:3])
    assert {(message["do"], message.get("step") or message["record"]["step"]) for message in lost} == {
        ("log", 12),
        ("log", 14),
        ("picture", 12),
    }
    pieces = prepare(run_dir)
    assert len(pieces) == 4
    assert prepare(run_dir) == pieces
    counts = count_points(run_dir)
    expected = {("train/loss", step) for step in range(2, LAST_STEP + 1, 2)}
    expected |= {
        (chart, step) for step in range(4, LAST_STEP + 1, 4) for chart in ("validate/ssim", "pictures/previews")
    }
    assert expected <= set(counts)
    assert max(counts.values()) == 1


def test_rows_filled_in_late_are_not_the_newest(run_dir: Path) -> None:
    prepare(run_dir)
    summary: dict[str, float] = {}
    for record in inspect_file(find_fragments(run_dir)[-1].path):
        summary.update(record.get("summary", {}).get("update", {}))
    assert summary["global_step"] == LAST_STEP
    assert summary["train/loss"] == 1 / LAST_STEP


def test_the_script_sends_every_piece_in_order_and_once(run_dir: Path, quiet_environment: pytest.MonkeyPatch) -> None:
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=[0.05], daemon=True).start()
        quiet_environment.setenv("WANDB_BASE_URL", server.url)
        quiet_environment.setenv("WANDB_API_KEY", "a" * 40)
        quiet_environment.setenv("WANDB_ERROR_REPORTING", "false")
        quiet_environment.setenv("PYTHON", sys.executable)
        first = subprocess.run(["bash", str(SCRIPT), str(run_dir)], capture_output=True, text=True, check=False)
        assert first.returncode == 0, first.stderr
        server.shutdown()
    assert prepare(run_dir) == []
    (lines,) = server.history.values()
    rows = [json.loads(text) for text in lines]
    assert [row["_step"] for row in rows] == list(range(len(rows)))
    steps = Counter(row["global_step"] for row in rows if "train/loss" in row)
    assert steps == Counter(range(2, LAST_STEP + 1, 2))
    assert server.used == {"images-1"}
    assert server.made == {"images-1", "vqvae-1"}
    assert server.states[-1] == 0


def test_a_folder_without_pieces_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no wandb/ in it"):
        main([str(tmp_path)])


def test_the_server_is_asked_first(tmp_path: Path, quiet_environment: pytest.MonkeyPatch) -> None:
    quiet_environment.setenv("PYTHON", sys.executable)
    quiet_environment.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    done = subprocess.run(["bash", str(SCRIPT), str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "http://127.0.0.1:9" in done.stderr
