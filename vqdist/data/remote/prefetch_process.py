"""The process that brings the shards of a remote data set into the cache folder, ahead of their use.

    python -m vqdist.data.remote.prefetch_process

Started by local rank 0 of each node, which writes to its stdin; not for people.

It reads lines of JSON: first the job, then positions of the run that have been consumed. It fetches what readers
wait for, then the window at the position, then the windows after it for as long as there is room; of what lies
behind, the oldest goes first when room is needed. It ends when its stdin does, or its parent.
"""

import fcntl
import json
import os
import select
import shutil
import signal
import sys
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from vqdist.data.order import Order
from vqdist.data.remote.download import Patience
from vqdist.data.remote.remote_dataset import POLL_S, Job, describe_failure, fetch_shard, is_released, mark_name
from vqdist.data.shards.index import index_path
from vqdist.data.shards.manifest import Manifest, load_manifest
from vqdist.foundation.atomic_files import write_atomic
from vqdist.foundation.errors import FetchError, UserError

CONNECTIONS = 4


class Plan:
    """Which shards are wanted at a position, in the order of their use, and no more than there is room for."""

    def __init__(self, manifest: Manifest, job: Job) -> None:
        self.shards = {shard.name: shard for split in manifest.splits.values() for shard in split.shards}
        self._train = manifest.splits["train"].shards if "train" in manifest.splits else ()
        sizes = np.array([shard.samples for shard in self._train], np.int64)
        self._order = Order(sizes, kind=job.order, window_shards=job.window_shards, seed=job.seed)
        self._room = job.total_bytes - job.spare_bytes

    def list_shards(self, position: int) -> tuple[list[str], int]:
        """Return the shards of the window at a position and of those after it, and where that window ends."""
        chosen: dict[str, None] = {}
        room, occupied = self._room, sum(shard.samples > 0 for shard in self._train)
        window, end = self._order.shards_of_window(position)
        position = end
        while True:
            for shard in (self._train[number] for number in window):
                if shard.name not in chosen:
                    room -= shard.bytes
                    if room < 0:
                        return list(chosen), end
                    chosen[shard.name] = None
            if len(chosen) == occupied:
                return list(chosen), end
            window, position = self._order.shards_of_window(position)


class Store:
    """The shards in the cache folder, of all data sets and runs, and who needs them."""

    def __init__(self, start: Path, total_bytes: int) -> None:
        self._start = start
        self._remote = start.parents[2]
        self._total = total_bytes

    def hold(self, names: list[str]) -> None:
        """Tell fetchers of other runs which shards must stay."""
        write_atomic(self._start / "held", json.dumps(names).encode())

    def make_room(self, size: int) -> bool:
        """Evict the oldest shards that nobody holds until `size` bytes fit; return whether they do."""
        shards = [(path, path.stat()) for path in self._list_files()]
        used = sum(stat.st_size for _, stat in shards)
        held = self._list_held()
        for path, stat in sorted(shards, key=lambda item: item[1].st_mtime):
            if used + size <= self._total:
                break
            if path not in held:
                # The index goes last: a shard that is there has one.
                path.unlink(missing_ok=True)
                index_path(path).unlink(missing_ok=True)
                used -= stat.st_size
        return used + size <= self._total

    def _list_files(self) -> Iterator[Path]:
        for path in self._remote.glob("*/**/*.tar"):
            with suppress(FileNotFoundError):
                path.stat()
                yield path

    def _list_held(self) -> set[Path]:
        held = set()
        for start in self._remote.glob("*/starts/*"):
            if start != self._start and is_released(start / "alive"):
                shutil.rmtree(start, ignore_errors=True)  # a killed run's
                continue
            with suppress(FileNotFoundError, ValueError):
                held |= {start.parents[1] / name for name in json.loads((start / "held").read_text())}
        return held


class Work:
    """What a fetcher does between two looks at its stdin."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._folder, self._start = Path(job.folder), Path(job.start)
        self._plan = Plan(load_manifest(self._folder), job)
        self._store = Store(self._start, job.total_bytes)
        self._patience = Patience(job.tries, job.first_pause_s, job.silence_s)
        self._pool = ThreadPoolExecutor(CONNECTIONS)
        self._under_way: dict[str, Future[bool]] = {}
        self._window = range(0)  # of positions, for which `_ahead` was made
        self._ahead: list[str] = []
        self._missing: list[str] = []  # of those ahead
        # Shards that the plan does not foresee stay until as many others have been asked for.
        self._asked_for: deque[str] = deque(maxlen=max(job.window_shards, 1))

    def move_to(self, position: int) -> None:
        """Plan anew where a position lies in another window."""
        if position in self._window:
            return
        self._ahead, end = self._plan.list_shards(position)
        self._window = range(position, end)
        self._hold()
        self._missing = [name for name in self._ahead if not (self._folder / name).exists()]

    def advance(self) -> None:
        """Note what has come, and begin with what is missing."""
        for name in [name for name, future in self._under_way.items() if future.done()]:
            self._finish(name, self._under_way.pop(name))
        for name, urgent in self._list_missing():
            if len(self._under_way) >= CONNECTIONS:
                return
            size = sum(self._plan.shards[other].bytes for other in (name, *self._under_way))
            # Runs that share the cache may each need more than is left: what is waited for comes all the same.
            if not self._store.make_room(size) and not urgent:
                return
            shard = self._plan.shards[name]
            self._under_way[name] = self._pool.submit(
                fetch_shard, self._job.address, self._folder, shard, self._patience
            )

    def _list_missing(self) -> Iterator[tuple[str, bool]]:
        """Yield the shards to fetch, those that somebody waits for first, and whether somebody does."""
        marks = sorted((self._start / "wanted").iterdir())
        wanted = [name for mark in marks if (name := mark.name.replace("%", "/")) in self._plan.shards]
        for name in wanted:
            if name not in self._ahead and name not in self._asked_for:
                self._asked_for.append(name)
                self._hold()
        for name in dict.fromkeys([*wanted, *self._missing]):
            if (self._folder / name).exists():
                (self._start / "wanted" / mark_name(name)).unlink(missing_ok=True)
            elif name not in self._under_way and not (self._start / "failed" / mark_name(name)).exists():
                yield name, name in wanted
                continue
            else:
                continue
            self._missing = [other for other in self._missing if other != name]

    def _hold(self) -> None:
        self._store.hold([*self._ahead, *self._asked_for])

    def _finish(self, name: str, future: Future[bool]) -> None:
        try:
            future.result()
        except (UserError, FetchError) as error:
            told = describe_failure(error)
        except OSError as error:
            told = {"message": f"{self._folder / name}: {error.strerror or error}"}
        else:
            return
        write_atomic(self._start / "failed" / mark_name(name), json.dumps(told).encode())


def take_lead(start: Path) -> IO[bytes]:
    """Lock this start's `alive` file; wait while another fetcher of the same start has it."""
    own = start / f"alive.{os.getpid()}"
    file = open(own, "wb")  # noqa: SIM115 (held until the process ends)
    fcntl.flock(file, fcntl.LOCK_EX)
    while True:
        try:
            os.link(own, start / "alive")
        except FileExistsError:
            if not is_released(start / "alive"):
                time.sleep(1.0)
                continue
            os.replace(own, start / "alive")
        own.unlink(missing_ok=True)
        return file


def read_lines(stream: int, parent: int) -> Iterator[list[dict[str, Any]]]:
    """Yield the messages that have come, [] where none has; end with the stream, or with the parent."""
    rest = b""
    while os.getppid() == parent:
        messages: list[dict[str, Any]] = []
        if select.select([stream], [], [], POLL_S)[0]:
            data = os.read(stream, 2**16)
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            messages = [json.loads(line) for line in lines]
        yield messages


def main() -> None:
    """Fetch until stdin ends."""
    parent = os.getppid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)  # the rank decides what they mean, and closes the stream
    inbox = read_lines(sys.stdin.fileno(), parent)
    work: Work | None = None
    start = Path()
    for messages in inbox:
        for message in messages:
            if "address" in message:
                job = Job(**message)
                start = Path(job.start)
                lock = take_lead(start)
                work = Work(job)
            elif work is not None and "position" in message:
                work.move_to(message["position"])
        if any("end" in message for message in messages):
            break
        if work is not None:
            work.advance()
    if work is not None:
        lock.close()
        shutil.rmtree(start, ignore_errors=True)
    # Downloads under way end with the process; their partial files are written anew by whoever needs them.
    os._exit(0)


if __name__ == "__main__":
    main()
