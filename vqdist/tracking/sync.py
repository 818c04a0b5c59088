"""The pieces of a run that W&B keeps in its directory, one per start, and the rows that they lack.

    python -m vqdist.tracking.sync RUN

fills in from metrics.jsonl and previews/ what a killed process never wrote, as one more offline piece,
and writes the pieces that `wandb sync` has to send to stdout, in order, one a line. Run by
launch/wandb_sync.sh, on a machine that reaches the server.
"""

import functools
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vqdist.config.command_line import Options, parse_options
from vqdist.config.section import Bool, FilePath, key
from vqdist.foundation.command import run_command
from vqdist.foundation.errors import ConfigError, DataError, VqdistError
from vqdist.foundation.json_lines import read_json_lines
from vqdist.foundation.progress import print_from_any_rank
from vqdist.tracking.rows import GLOBAL_STEP, to_row
from vqdist.tracking.sent import SentSteps
from vqdist.tracking.server import ANSWER_LIMIT_S, find_server_url, has_key, probe_server
from vqdist.tracking.tracker import Reporter

# A run that goes on writes something every quarter of a minute, if only how busy its machine is.
LIVE_S = 120.0
FILL_LIMIT_S = 600.0
_PICTURE = re.compile(r"step-(\d+)\.png")


@dataclass(frozen=True)
class Fragment:
    """What one start of a run has left in `wandb/`.

    Attributes:
        path: its .wandb file.
        offline: False if that start was online, and the server has (most of) it.
        ended: whether it was brought to an end, rather than killed.
        points: every (chart, global step) that it holds.
    """

    path: Path
    offline: bool
    ended: bool
    points: frozenset[tuple[str, int]]

    @property
    def is_sent(self) -> bool:
        """Whether nothing was written to it since `wandb sync` sent it."""
        mark = self.path.with_name(self.path.name + ".synced")
        return mark.exists() and mark.stat().st_mtime >= self.path.stat().st_mtime


def find_fragments(run_dir: Path) -> list[Fragment]:
    """Return the pieces of a run in the order in which they were started."""
    files = (run_dir / "wandb").glob("*run-*/*.wandb")
    return [read_fragment(file) for file in sorted(files, key=lambda file: file.parent.name.split("run-", 1)[1])]


def read_fragment(path: Path) -> Fragment:
    """Read one .wandb file; what is behind a torn end is not there."""
    stat = path.stat()
    return _read_fragment(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=1024)  # by size and time too: reading takes a process of its own
def _read_fragment(path: Path, _size: int, _mtime_ns: int) -> Fragment:
    points, ended = set(), False
    for record in inspect_file(path):
        if record["type"] == "history":
            item = record["history"].get("item", {})
            charts = {name.split("._type")[0] for name in item}
            points |= {(chart, int(item[GLOBAL_STEP])) for chart in charts if GLOBAL_STEP in item}
        ended = ended or record["type"] == "exit"
    return Fragment(path, path.parent.name.startswith("offline-"), ended, frozenset(points))


def is_live(run_dir: Path, fragments: Sequence[Fragment]) -> bool:
    """Tell whether a process may still be writing to the newest piece."""
    if not fragments or fragments[-1].ended:
        return False
    alive = SentSteps(run_dir / "wandb").writer_is_alive()
    return time.time() - fragments[-1].path.stat().st_mtime < LIVE_S if alive is None else alive


def inspect_file(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a .wandb file, read by W&B itself.

    Raises:
        VqdistError: it cannot.
    """
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(path)]
    answer = subprocess.run(command, capture_output=True, check=False)
    if answer.returncode != 0 and not answer.stdout and path.stat().st_size > 0:
        raise VqdistError(f"{path}: `wandb leet inspect` failed: {answer.stderr.decode(errors='replace').strip()}")
    for line in answer.stdout.splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            return
        if "type" in record:
            yield record


def find_lost(run_dir: Path, fragments: Sequence[Fragment]) -> list[dict[str, Any]]:
    """Return the messages that bring what is in the run's record and in no piece.

    Args:
        run_dir: the run's directory with its metrics.jsonl and previews/.
        fragments: all its pieces.
    """
    have = frozenset().union(*(fragment.points for fragment in fragments))
    lost: list[dict[str, Any]] = []
    metrics = run_dir / "metrics.jsonl"
    for _, record in read_json_lines(metrics) if metrics.exists() else []:
        row = to_row(record)
        step = row.pop(GLOBAL_STEP)
        if row and not any((chart, step) in have for chart in row if chart != "samples"):
            lost.append({"do": "log", "record": record})
    for path in sorted((run_dir / "previews").glob("step-*.png")):
        found = _PICTURE.fullmatch(path.name)
        if found and ("pictures/previews", int(found[1])) not in have:
            lost.append({"do": "picture", "name": "previews", "step": int(found[1]), "path": str(path.resolve())})
    return lost


def find_latest(run_dir: Path) -> dict[str, float]:
    """Return the newest value of every chart, so that rows filled in late do not pass for the newest."""
    latest: dict[str, float] = {}
    metrics = run_dir / "metrics.jsonl"
    for _, record in read_json_lines(metrics) if metrics.exists() else []:
        latest.update(to_row(record))
    return latest


def fill(run_dir: Path, lost: Sequence[dict[str, Any]]) -> None:
    """Write an offline piece with the rows that the others lack, under the run's id.

    Raises:
        VqdistError: W&B did not take them all.
    """
    start = {**SentSteps(run_dir / "wandb").start, "mode": "offline", "config": {}, "resumed_step": 0, "fill": True}
    state = read_state(run_dir)
    reporter = Reporter(run_dir, start)
    for message in [*lost, {"do": "summary", "values": find_latest(run_dir)}]:
        reporter.send(message, patience_s=FILL_LIMIT_S)
    last = {"do": "finish", "state": state, "exit_code": 0 if state == "finished" else 1, "limit_s": FILL_LIMIT_S}
    if not reporter.close(last, FILL_LIMIT_S):
        raise VqdistError(f"{run_dir}: W&B did not take what was to be filled in; see wandb/reporter.log")


def read_state(run_dir: Path) -> str:
    """Return the state of a run that is not running any more."""
    try:
        state = json.loads((run_dir / "status.json").read_text())["state"]
    except (OSError, ValueError, KeyError, TypeError):
        return "failed"
    return "failed" if state == "running" else str(state)


def prepare(run_dir: Path) -> list[Path]:
    """Fill in what the pieces of a run lack and return the pieces to send, in order.

    Raises:
        DataError: the folder is no run that W&B has tracked.
    """
    if not (run_dir / "wandb").is_dir():
        raise DataError.of(str(run_dir), "no wandb/ in it", "the directory of a run that was tracked")
    fragments = find_fragments(run_dir)
    live = is_live(run_dir, fragments)
    lost = find_lost(run_dir, fragments)
    if live:
        print_from_any_rank(f"{run_dir}: still running; what it lacks is filled in once it has ended")
    elif lost:
        print_from_any_rank(f"{run_dir}: {len(lost)} rows and pictures that no start has written are filled in")
        fill(run_dir, lost)
        fragments = find_fragments(run_dir)
    return [piece.path for piece in choose_to_send(fragments, live=live)]


def choose_to_send(fragments: Sequence[Fragment], *, live: bool) -> list[Fragment]:
    """Return the pieces that the server lacks; one that is still written to has to wait, or it would go out twice."""
    ended = fragments[:-1] if live else fragments
    # What an online start wrote is the server's already, unless it was cut off and nothing came after it.
    cut_off = [piece for piece in ended[-1:] if not piece.offline and not piece.ended]
    return [piece for piece in ended if not piece.is_sent and (piece.offline or piece in cut_off)]


def check_server() -> None:
    """Raise an error unless W&B can be reached with a key.

    Raises:
        ConfigError: there is no key, or the server does not answer.
    """
    url = find_server_url()
    if not has_key(url, os.environ):
        raise ConfigError.of("W&B", f"no API key for {url}", "WANDB_API_KEY, or `wandb login` done before")
    reason = probe_server(url, ANSWER_LIMIT_S)
    if reason:
        raise ConfigError.of("W&B", f"no answer from {url} ({reason})", "a server within reach")


class SyncOptions(Options):
    """Options of the command."""

    runs: tuple[FilePath, ...] = key(..., "run directory", positional="RUN")
    check_server: Bool = key(False, "fail at once if the server is out of reach")


def main(argv: Sequence[str]) -> int:
    """Prepare runs to be sent; write the pieces to stdout."""
    parsed = parse_options("tracking.sync", __doc__ or "", SyncOptions, argv)
    if parsed.options is None or parsed.problems:
        raise ConfigError(parsed.problems)
    if parsed.options.check_server:
        check_server()
    for run_dir in parsed.options.runs:
        for path in prepare(run_dir):
            sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
