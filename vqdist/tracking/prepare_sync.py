"""Fill in what W&B lacks of a run and list what to send: python -m vqdist.tracking.prepare_sync RUN [--new-id].

Every attempt has a .wandb file in RUN/wandb/. What killed processes did not write is added from metrics.jsonl and
previews/ as one more file. Files that the server may lack go to stdout, in order, each after the id of the run;
launch/wandb_sync.sh sends them. With --new-id the run gets a new id, and every file is listed.
"""

import json
import secrets
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from vqdist.foundation.command import run_command
from vqdist.foundation.errors import DataError, VqdistError
from vqdist.foundation.progress import print_from_any_rank
from vqdist.foundation.run_status import read_status
from vqdist.runs.metrics_file import read_metrics
from vqdist.runs.run_dir import RunDir
from vqdist.tracking.metric_rows import GLOBAL_STEP, find_best, join_reports, to_event
from vqdist.tracking.process import open_run, send
from vqdist.tracking.state import TrackingState

LIVE_S = 120.0  # a running attempt writes system metrics more often than that
Points = set[tuple[str, int]]  # (chart, global step)


def find_wandb_files(run_dir: RunDir) -> list[Path]:
    """Return the .wandb files of a run in the order of its attempts."""
    return sorted(run_dir.wandb.glob("*run-*/*.wandb"), key=lambda path: path.parent.name.removeprefix("offline-"))


def read_wandb_file(path: Path) -> tuple[Points, bool]:
    """Return the points in a .wandb file, and whether its attempt was ended rather than killed.

    Raises:
        VqdistError: W&B cannot read the file.
    """
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(path)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise VqdistError(f"{path}: `wandb leet inspect` failed: {answer.stderr.strip()}")
    records = [json.loads(line) for line in answer.stdout.splitlines()]
    rows = [record["history"].get("item", {}) for record in records if record["type"] == "history"]
    points = {(chart.split("._type")[0], int(row[GLOBAL_STEP])) for row in rows if GLOBAL_STEP in row for chart in row}
    return points, any(record["type"] == "exit" for record in records)


def find_missing(
    run_dir: RunDir, rows: Sequence[dict[str, Any]], points: Points, *, images: bool = True
) -> list[dict[str, Any]]:
    """Return the events of the rows and, with `images`, of the previews that are not among the points."""
    missing = []
    for event in rows:
        if points.isdisjoint((chart, event["step"]) for chart in event["row"].keys() - {GLOBAL_STEP, "samples"}):
            missing.append(event)
    for path in sorted(run_dir.previews.glob("step-*.png")) if images else []:
        stream, step = "pictures/previews", int(path.stem.removeprefix("step-"))
        if (stream, step) not in points:
            missing.append({"do": "picture", "stream": stream, "step": step, "path": str(path)})
    return missing


def fill_in(run_dir: RunDir, state: TrackingState, points: Points) -> None:
    """Write one more .wandb file with what is not among the points, if there is anything."""
    rows = [to_event(record) for record in (read_metrics(run_dir.metrics) if run_dir.metrics.exists() else [])]
    if missing := find_missing(run_dir, rows, points, images=state.images):
        names = "rows and previews" if state.images else "rows"
        print_from_any_rank(f"{run_dir.path}: {len(missing)} missing {names} are filled in")
        run = open_run(run_dir, state, mode="offline", command=[__file__], config=None)
        for event in join_reports(missing):
            send(run, event)
        # The rows that were filled in must not count as the newest ones.
        newest = {chart: value for event in rows for chart, value in event["row"].items()}
        run.summary.update(newest | find_best(event["row"] for event in rows))
        run.finish(exit_code=0 if read_status(run_dir.path).get("state") == "finished" else 1)


def prepare(run_dir: RunDir, *, new_id: bool = False) -> list[Path]:
    """Fill in what the .wandb files of a run lack; return the files that the server may lack, in order.

    Args:
        new_id: give the run a new id, under which the server has nothing; all files are returned.
    Raises:
        DataError: the folder is not a tracked run, or it gets a new id while it is running.
    """
    if not run_dir.wandb.is_dir():
        raise DataError.of(str(run_dir.path), "no wandb/ in it", "the directory of a run that was tracked")
    files, state = find_wandb_files(run_dir), TrackingState.load(run_dir.wandb)
    with ThreadPoolExecutor() as pool:
        contents = list(pool.map(read_wandb_file, files))
    points, has_ended = Points().union(*(found for found, _ in contents)), not contents or contents[-1][1]
    is_alive = state.is_writer_alive()
    is_running = time.time() - files[-1].stat().st_mtime < LIVE_S if files and is_alive is None else bool(is_alive)
    if not has_ended and is_running:
        if new_id:
            raise DataError.of(str(run_dir.path), "a run that is still running", "a run that has ended, for a new id")
        print_from_any_rank(f"{run_dir.path}: still running; its last attempt can be sent when it has ended")
        return [path for path in files[:-1] if path.parent.name.startswith("offline-")]
    if new_id:
        give_new_id(run_dir, state)
    fill_in(run_dir, state, points)
    # Under the id of the run, the server has what online attempts wrote, except for the end of the last one if it was
    # killed.
    cut_off = [] if has_ended else files[-1:]
    return [
        path
        for path in find_wandb_files(run_dir)
        if path.parent.name.startswith("offline-") or path in cut_off or path.stem != f"run-{state.id}"
    ]


def give_new_id(run_dir: RunDir, state: TrackingState) -> None:
    """Give a run another id for all its attempts, earlier and later ones, and forget what was sent."""
    state.id = secrets.token_hex(4)
    state.save(run_dir.wandb)
    for mark in run_dir.wandb.glob("*run-*/*.wandb.synced"):
        mark.unlink()


def main(argv: Sequence[str]) -> None:
    """Prepare a run to be sent; write the id and the path of each file to stdout."""
    words = [word for word in argv if word != "--new-id"]
    run_dir = RunDir(Path(words[0]))
    files = prepare(run_dir, new_id="--new-id" in argv)
    run_id = TrackingState.load(run_dir.wandb).id
    sys.stdout.writelines(f"{run_id} {path}\n" for path in files)


if __name__ == "__main__":
    sys.exit(run_command(main))
