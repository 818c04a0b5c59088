"""Fill in what W&B lacks of a run, and list the files to send: python -m vqdist.tracking.sync RUN.

Every attempt has a directory with a .wandb file in RUN/wandb/. Rows and previews that killed processes did not write
are added from metrics.jsonl and previews/, as one more offline directory. The paths of the files that `wandb sync` has
to send go to stdout, in order. launch/wandb_sync.sh runs this and sends them.
"""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vqdist.foundation.command import Parser, boolean, print_from_any_rank, run_command
from vqdist.foundation.errors import ConfigError, DataError, VqdistError
from vqdist.runs.run_dir import read_lines, read_status
from vqdist.tracking.process import WandbRun
from vqdist.tracking.rows import GLOBAL_STEP, to_row
from vqdist.tracking.server import find_obstacle
from vqdist.tracking.state import TrackingState

LIVE_S = 120.0  # a running attempt writes system metrics more often
Points = set[tuple[str, int]]  # (chart, global step)


def find_wandb_files(run_dir: Path) -> list[Path]:
    """Return the .wandb files of a run in the order of its attempts."""
    files = (run_dir / "wandb").glob("*run-*/*.wandb")
    return sorted(files, key=lambda file: file.parent.name.removeprefix("offline-"))


def read_wandb_file(path: Path) -> tuple[Points, bool]:
    """Return the points in a .wandb file, and whether the attempt was ended rather than killed.

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


def find_missing(run_dir: Path, points: Points) -> list[dict[str, Any]]:
    """Return the events that send what metrics.jsonl and previews/ have beyond the points."""
    events = []
    for row in read_rows(run_dir):
        if points.isdisjoint((chart, row[GLOBAL_STEP]) for chart in row.keys() - {GLOBAL_STEP, "samples"}):
            events.append({"do": "row", "row": row})
    for path in sorted(run_dir.glob("previews/step-*.png")):
        stream, step = "pictures/previews", int(path.stem.removeprefix("step-"))
        if (stream, step) not in points:
            events.append({"do": "picture", "stream": stream, "step": step, "path": str(path)})
    return events


def fill_in(run_dir: Path, events: Sequence[dict[str, Any]]) -> None:
    """Write events to one more offline directory of the run."""
    start = {"run": TrackingState.load(run_dir).start, "config": None, "program": __file__}
    run = WandbRun(run_dir, start, "offline")
    run.send(events)
    state = read_status(run_dir).get("state")
    # Rows filled in late must not pass for the newest values.
    newest = {chart: value for row in read_rows(run_dir) for chart, value in row.items()}
    run.finish("failed" if state == "running" else state, 0 if state == "finished" else 1, summary=newest)


def prepare(run_dir: Path) -> list[Path]:
    """Fill in what the .wandb files of a run lack; return the files that the server may lack, in order.

    Raises:
        DataError: the folder is not a tracked run.
    """
    files = find_wandb_files(run_dir)
    if not files:
        raise DataError.of(str(run_dir), "no wandb/ in it", "the directory of a run that was tracked")
    points: Points = set()
    for file in files:
        found, has_ended = read_wandb_file(file)
        points |= found
    is_alive = TrackingState.load(run_dir).is_writer_alive()
    if is_alive is None:
        is_alive = time.time() - files[-1].stat().st_mtime < LIVE_S
    missing = find_missing(run_dir, points)
    if not has_ended and is_alive:
        print_from_any_rank(f"{run_dir}: still running; its last attempt is sent when it has ended")
        return [...]
    ...


def main(argv: Sequence[str]) -> int:
    """Prepare a run to be sent; write the files to stdout."""
    parser = Parser("vqdist.tracking.sync", __doc__ or "")
    parser.place("RUN", Path, help="the run's directory")
    parser.option("--check-server", boolean, default=False, help="fail at once if the server cannot be reached")
    args = parser.parse_args(argv)
    obstacle = find_obstacle() if args.check_server else None
    if obstacle:
        raise ConfigError.of("W&B", obstacle, "an API key and a server that answers")
    sys.stdout.writelines(f"{path}\n" for path in prepare(args.run))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
