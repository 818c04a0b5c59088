"""A data set at an address: what lies in the cache folder for it, and how ranks and workers wait for its shards.

    CACHE/remote/NAME/              NAME is the sha256 of dataset.json: runs of the same data share it
        dataset.json  vqvae/        fetched at the start by whoever comes first
        train/shard-000000.tar      with its index beside it; verified before it has this name
        starts/TOKEN/               one start of a run, on one node
            alive                   locked by the fetcher for as long as it lives
            wanted/  failed/        shards that somebody waits for; those that cannot be had, and why

One process of a node, the fetcher (`vqdist.data.remote.prefetch_process`), fetches and evicts; all others wait.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Literal

from vqdist.data.remote.download import Expected, Patience, check_url, fetch_bytes, fetch_file, join_url
from vqdist.data.shards.index import index_path, max_index_bytes
from vqdist.data.shards.manifest import MANIFEST, MAX_MANIFEST_BYTES, Manifest, ShardInfo
from vqdist.foundation.errors import DamagedDataError, DataError, FetchError, Problem, StalledError, UserError
from vqdist.foundation.json_validation import parse_json

COMPANION_FILES = {"vqvae/config.json": 2**20, "vqvae/model.safetensors": 2**33}  # and the most bytes of each
POLL_S = 0.02
END_S = 5.0  # for a fetcher to end by itself


def fetch_head(address: str, cache_dir: Path, patience: Patience | None = None) -> Path:
    """Fetch what must be known of a data set before a shard is read; return its folder in the cache.

    Raises:
        DataError: not a plain address, or no data set there; FetchError: it did not come.
    """
    check_url(address)
    patience = patience or Patience()
    data = fetch_bytes(join_url(address, MANIFEST), Expected(MAX_MANIFEST_BYTES), patience)
    manifest = Manifest.from_json(parse_json(data, f"{address}, {MANIFEST}"), where=f"{address}, {MANIFEST}")
    folder = cache_dir / "remote" / hashlib.sha256(data).hexdigest()[:32]
    names = {MANIFEST: MAX_MANIFEST_BYTES} | (COMPANION_FILES if manifest.kind == "codes" else {})
    for name, most in names.items():
        digest = hashlib.sha256(data).hexdigest() if name == MANIFEST else None
        _fetch_or_wait(join_url(address, name), folder / name, Expected(most, sha256=digest), patience)
    return folder


def _fetch_or_wait(address: str, target: Path, expected: Expected, patience: Patience) -> None:
    while not target.exists() and not fetch_file(address, target, expected, patience):
        time.sleep(POLL_S)


def fetch_shard(address: str, folder: Path, shard: ShardInfo, patience: Patience) -> bool:
    """Fetch a shard and its index, the index first; return False where another process is at one of them."""
    path = folder / shard.name
    index = Expected(max_index_bytes(shard.samples), sha256=shard.index_sha256)
    tar = Expected(shard.bytes, shard.bytes, shard.sha256)
    for target, expected in ((index_path(path), index), (path, tar)):
        name = target.relative_to(folder).as_posix()
        if not target.exists() and not fetch_file(join_url(address, name), target, expected, patience):
            return False
    return True


@dataclass(frozen=True)
class Room:
    """What of a data set may lie in the cache folder at a time, in bytes.

    Attributes:
        total: all shards together.
        spare: of it for shards that the order of the train split does not foresee: validation, previews.
    """

    total: int
    spare: int


def plan_room(manifest: Manifest, *, order: str, window_shards: int, cache_gib: float) -> Room:
    """Return how the bound on the cache is shared out.

    The windowed order needs the window that is read and the one after it. The full order reads from everywhere at
    once, so it is for train splits that fit as a whole.

    Raises:
        DataError: the bound is too small.
    """
    total = int(cache_gib * 2**30)
    shards = manifest.splits["train"].shards if "train" in manifest.splits else ()
    rest = [shard for name, split in manifest.splits.items() if name != "train" for shard in split.shards]
    largest_rest = sorted((shard.bytes for shard in rest), reverse=True)
    spare = sum(largest_rest[:window_shards])
    sizes = sorted((shard.bytes for shard in shards), reverse=True)
    needed = spare + (sum(sizes) if order == "full" else sum(sizes[: 2 * window_shards]))
    if needed > total:
        what = "the whole train split (data.order full)" if order == "full" else "two windows (data.window_shards)"
        raise DataError.of("data.cache_gib", cache_gib, f"at least {needed / 2**30:.3f} GiB: {what} of remote shards")
    return Room(total, spare)


@dataclass(frozen=True)
class Job:
    """What a fetcher has to do.

    Attributes:
        address: of the data set.
        folder: of it in the cache.
        start: this start's folder.
        total_bytes, spare_bytes: see `vqdist.data.remote.remote_dataset.Room`.
        order, window_shards, seed: how the train split will be read.
    """

    address: str
    folder: str
    start: str
    total_bytes: int
    spare_bytes: int
    order: Literal["windowed", "full"]
    window_shards: int
    seed: int
    tries: int = Patience.tries
    first_pause_s: float = Patience.first_pause_s
    silence_s: float = Patience.silence_s


class Fetcher:
    """A fetcher as its rank sees it."""

    def __init__(self, job: Job) -> None:
        self._start = Path(job.start)
        for name in ("wanted", "failed"):
            (self._start / name).mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "vqdist.data.remote.prefetch_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(part or os.getcwd() for part in sys.path)},
        )
        assert self._process.stdin is not None
        self._stdin: IO[bytes] = self._process.stdin
        self._send(asdict(job))
        # A fetcher that hangs must not hang the training: readers notice by themselves when nothing comes.
        os.set_blocking(self._stdin.fileno(), False)

    @property
    def pid(self) -> int:
        return self._process.pid

    def tell(self, position: int) -> None:
        """Tell that all samples before a position of the run have been consumed."""
        self._send({"position": position})

    def _send(self, message: dict[str, Any]) -> None:
        with suppress(BrokenPipeError, BlockingIOError):
            os.write(self._stdin.fileno(), json.dumps(message).encode() + b"\n")

    def close(self) -> None:
        """End the process; what it has fetched stays for the next run."""
        self._send({"end": True})  # loader workers that still run hold the pipe open
        self._stdin.close()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._start, ignore_errors=True)  # where it did not end by itself


class ShardGate:
    """Holds a reader back until a shard is in the cache folder. Picklable: every rank and worker of a node has one.

    Args:
        folder: of the data set in the cache.
        start: this start's folder below it, made before any gate is asked.
        timeout_s: most seconds to wait for one shard.
    """

    def __init__(self, folder: Path, start: Path, timeout_s: float) -> None:
        self._folder, self._start, self._timeout_s = folder, start, timeout_s

    def wait_for(self, name: str) -> None:
        """Return once a shard and its index are there.

        Raises:
            DamagedDataError: it is not there, or not what the manifest says; FetchError: it did not come.
            StalledError: the fetcher is gone, or nothing came for timeout_s seconds.
        """
        path = self._folder / name
        deadline = time.monotonic() + self._timeout_s
        while not path.exists():
            self._raise_failure(name)
            if not self._start.exists() or is_released(self._start / "alive"):
                raise StalledError(f"data.path: the process that fetches shards is gone; {name} is not there yet")
            if time.monotonic() > deadline:
                raise StalledError(f"data.path: {name} did not come within run.timeout_s ({self._timeout_s:g} s)")
            self._want(name)
            time.sleep(POLL_S)

    def _want(self, name: str) -> None:
        mark = self._start / "wanted" / mark_name(name)
        if not mark.exists():
            with suppress(FileNotFoundError):  # the fetcher has not set up the folder yet, or has just left
                mark.touch()

    def _raise_failure(self, name: str) -> None:
        try:
            told = json.loads((self._start / "failed" / mark_name(name)).read_text())
        except FileNotFoundError:
            return
        if "message" in told:
            raise FetchError(told["message"])
        raise DamagedDataError([Problem(**problem) for problem in told["problems"]])


def mark_name(shard: str) -> str:
    """Return the file name that stands for a shard; names of shards hold no percent sign."""
    return shard.replace("/", "%")


def describe_failure(error: UserError | FetchError) -> dict[str, Any]:
    """Return as JSON values what a gate raises again."""
    if isinstance(error, UserError):
        return {"problems": [vars(problem) for problem in error.problems]}
    return {"message": str(error)}


def is_released(lock: Path) -> bool:
    """Tell whether a lock file is there and the process that held it is gone."""
    try:
        with open(lock, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (FileNotFoundError, BlockingIOError):
        return False
    return True
