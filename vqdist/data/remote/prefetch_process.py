"""The process that downloads the shards of a remote dataset into the cache folder before they are used.

    python -m vqdist.data.remote.prefetch_process

Local rank 0 of each node starts it and writes lines of JSON to its stdin: a job, then positions of the run that have
been consumed. The process downloads the shards that readers wait for, then the window at the position, then later
windows while there is space. To free space, it evicts the oldest shards that no run holds. It ends with its stdin or
its parent.
"""

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
from vqdist.data.remote.remote_dataset import (
    POLL_INTERVAL_S,
    PrefetchJob,
    failure_to_json,
    fetch_shard,
    is_released,
    mark_name,
)
from vqdist.data.shards.index import index_path
from vqdist.data.shards.manifest import Manifest, load_manifest
from vqdist.foundation.atomic_files import write_atomic
from vqdist.foundation.errors import FetchError, UserError
from vqdist.foundation.file_locks import lock_file

CONNECTIONS = 4


class PrefetchPlan:
    """The shards to download at a position: those of the training order, as many as the cache budget allows."""

    def __init__(self, manifest: Manifest, job: PrefetchJob) -> None:
        self.shards = {shard.name: shard for split in manifest.splits.values() for shard in split.shards}
        self._train = manifest.splits["train"].shards if "train" in manifest.splits else ()
        sizes = np.array([shard.samples for shard in self._train], np.int64)
        self._order = Order(sizes, kind=job.order, window_shards=job.window_shards, seed=job.seed)
        self._train_bytes = job.budget.total_bytes - job.budget.reserved_bytes

    def list_shards(self, position: int) -> tuple[list[str], int]:
        """Return the shards of the window at a position and of later windows, and where the first window ends."""
        chosen: dict[str, None] = {}
        free, occupied = self._train_bytes, sum(shard.samples > 0 for shard in self._train)
        window, end = self._order.shards_of_window(position)
        position = end
        while True:
            for shard in (self._train[number] for number in window):
                if shard.name not in chosen:
                    free -= shard.bytes
                    if free < 0:
                        return list(chosen), end
                    chosen[shard.name] = None
            if len(chosen) == occupied:
                return list(chosen), end
            window, position = self._order.shards_of_window(position)


class ShardStore:
    """The shards in the cache folder, of all datasets and runs, and which runs hold them."""

    def __init__(self, attempt_dir: Path, total_bytes: int) -> None:
        self._attempt_dir = attempt_dir
        self._remote = attempt_dir.parents[2]
        self._total_bytes = total_bytes

    def hold(self, names: list[str]) -> None:
        """Protect shards from eviction by the prefetch processes of other runs."""
        write_atomic(self._attempt_dir / "held", json.dumps(names).encode())

    def free_space(self, size: int) -> bool:
        """Evict the oldest shards that no run holds until `size` bytes are free; return whether they are."""
        shards = [(path, path.stat()) for path in self._list_files()]
        used = sum(stat.st_size for _, stat in shards)
        held = self._list_held()
        for path, stat in sorted(shards, key=lambda item: item[1].st_mtime):
            if used + size <= self._total_bytes:
                break
            if path not in held:
                # In this order: a shard that exists always has an index.
                path.unlink(missing_ok=True)
                index_path(path).unlink(missing_ok=True)
                used -= stat.st_size
        return used + size <= self._total_bytes

    def _list_files(self) -> Iterator[Path]:
        for path in self._remote.glob("*/**/*.tar"):
            with suppress(FileNotFoundError):
                path.stat()
                yield path

    def _list_held(self) -> set[Path]:
        held = set()
        for attempt_dir in self._remote.glob("*/starts/*"):
            if attempt_dir != self._attempt_dir and is_released(attempt_dir / "alive"):
                shutil.rmtree(attempt_dir, ignore_errors=True)  # its process was killed
                continue
            with suppress(FileNotFoundError, ValueError):
                names = json.loads((attempt_dir / "held").read_text())
                held |= {attempt_dir.parents[1] / name for name in names}
        return held


class PrefetchScheduler:
    """Starts downloads in the order in which shards are needed."""

    def __init__(self, job: PrefetchJob) -> None:
        self._job = job
        self._folder, self._attempt_dir = Path(job.folder), Path(job.attempt_dir)
        self._plan = PrefetchPlan(load_manifest(self._folder), job)
        self._store = ShardStore(self._attempt_dir, job.budget.total_bytes)
        self._pool = ThreadPoolExecutor(CONNECTIONS)
        self._downloads: dict[str, Future[bool]] = {}
        self._window = range(0)  # positions for which `_planned` was computed
        self._planned: list[str] = []
        self._missing: list[str] = []  # of the planned shards
        # Shards outside the plan are held until this many others have been requested.
        self._unplanned: deque[str] = deque(maxlen=max(job.window_shards, 1))

    def move_to(self, position: int) -> None:
        """Plan again if a position is in another window."""
        if position in self._window:
            return
        self._planned, end = self._plan.list_shards(position)
        self._window = range(position, end)
        self._hold()
        self._missing = [name for name in self._planned if not (self._folder / name).exists()]

    def advance(self) -> None:
        """Process finished downloads and start new ones."""
        for name in [name for name, future in self._downloads.items() if future.done()]:
            self._finish(name, self._downloads.pop(name))
        for name, urgent in self._list_missing():
            if len(self._downloads) >= CONNECTIONS:
                return
            size = sum(self._plan.shards[other].bytes for other in (name, *self._downloads))
            # Several runs may need more than the cache holds: a shard that a reader waits for is downloaded anyway.
            if not self._store.free_space(size) and not urgent:
                return
            shard = self._plan.shards[name]
            self._downloads[name] = self._pool.submit(fetch_shard, self._job.url, self._folder, shard, self._job.policy)

    def _list_missing(self) -> Iterator[tuple[str, bool]]:
        """Yield the shards to download, and whether a reader waits for them; those come first."""
        marks = sorted((self._attempt_dir / "wanted").iterdir())
        wanted = [name for mark in marks if (name := mark.name.replace("%", "/")) in self._plan.shards]
        for name in wanted:
            if name not in self._planned and name not in self._unplanned:
                self._unplanned.append(name)
                self._hold()
        for name in dict.fromkeys([*wanted, *self._missing]):
            if (self._folder / name).exists():
                (self._attempt_dir / "wanted" / mark_name(name)).unlink(missing_ok=True)
                self._missing = [other for other in self._missing if other != name]
            elif name not in self._downloads and not (self._attempt_dir / "failed" / mark_name(name)).exists():
                yield name, name in wanted

    def _hold(self) -> None:
        self._store.hold([*self._planned, *self._unplanned])

    def _finish(self, name: str, download: Future[bool]) -> None:
        try:
            download.result()
        except (UserError, FetchError) as error:
            failure = failure_to_json(error)
        except OSError as error:
            failure = {"cache": f"{self._folder}, in which nothing can be written: {error.strerror or error}"}
        else:
            return
        write_atomic(self._attempt_dir / "failed" / mark_name(name), json.dumps(failure).encode())


def lock_attempt(attempt_dir: Path) -> IO[bytes]:
    """Lock the `alive` file of an attempt; wait while another prefetch process of the same attempt holds it."""
    own = attempt_dir / f"alive.{os.getpid()}"
    file = open(own, "wb")  # noqa: SIM115 (held until the process ends)
    lock_file(file)
    while True:
        try:
            os.link(own, attempt_dir / "alive")
        except FileExistsError:
            if not is_released(attempt_dir / "alive"):
                time.sleep(1.0)
                continue
            os.replace(own, attempt_dir / "alive")
        own.unlink(missing_ok=True)
        return file


def read_messages(stream: int, parent: int) -> Iterator[list[dict[str, Any]]]:
    """Yield the messages that have arrived, [] if none; end with the stream or the parent process."""
    rest = b""
    while os.getppid() == parent:
        messages: list[dict[str, Any]] = []
        if select.select([stream], [], [], POLL_INTERVAL_S)[0]:
            data = os.read(stream, 2**16)
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            messages = [json.loads(line) for line in lines]
        yield messages


def main() -> None:
    """Run until stdin ends."""
    parent = os.getppid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)  # the rank handles them and closes the stream
    scheduler: PrefetchScheduler | None = None
    attempt_dir = Path()
    for messages in read_messages(sys.stdin.fileno(), parent):
        for message in messages:
            if "job" in message:
                job = PrefetchJob.from_json(message["job"])
                attempt_dir = Path(job.attempt_dir)
                lock = lock_attempt(attempt_dir)
                scheduler = PrefetchScheduler(job)
            elif scheduler is not None and "position" in message:
                scheduler.move_to(message["position"])
        if any("end" in message for message in messages):
            break
        if scheduler is not None:
            scheduler.advance()
    if scheduler is not None:
        lock.close()
        shutil.rmtree(attempt_dir, ignore_errors=True)
    os._exit(0)  # without waiting for downloads; the next process that needs such a file downloads it again


if __name__ == "__main__":
    main()
