"""A dataset at a URL: its folder in the cache, its prefetcher, and how readers wait for shards.

    CACHE/remote/NAME/              NAME is the sha256 of dataset.json, so runs on the same data share the folder
        dataset.json  vqvae/        downloaded by the first process that opens the dataset
        train/shard-000000.tar      with its index beside it; verified before it has this name
        starts/TOKEN/               one attempt of a run on one node
            alive                   locked by the prefetch process while it runs
            held                    shards that must not be evicted
            wanted/                 shards that a reader waits for
            failed/                 shards that cannot be downloaded, with the reason

One process per node (`vqdist.data.remote.prefetch_process`) downloads and evicts shards. All others wait.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from vqdist.data.cache_dir import CACHE_REMEDY
from vqdist.data.remote.download import Expected, RetryPolicy, check_url, fetch_bytes, fetch_file, join_url
from vqdist.data.shards.index import index_path, max_index_bytes
from vqdist.data.shards.manifest import MANIFEST, MAX_MANIFEST_BYTES, Manifest, ShardInfo
from vqdist.foundation.errors import DamagedDataError, DataError, FetchError, Problem, StalledError, UserError
from vqdist.foundation.file_locks import lock_file
from vqdist.foundation.json_validation import parse_json

VQVAE_FILES = {"vqvae/config.json": 2**20, "vqvae/model.safetensors": 2**33}  # name -> most bytes
POLL_INTERVAL_S = 0.02
CLOSE_TIMEOUT_S = 5.0


def fetch_head(url: str, cache_dir: Path, policy: RetryPolicy | None = None) -> Path:
    """Download everything but the shards of a dataset, unless it is in the cache; return its folder there.

    Raises:
        DataError: no plain URL, or no dataset there.
        FetchError: a download failed after all retries.
    """
    check_url(url)
    policy = policy or RetryPolicy()
    data = fetch_bytes(join_url(url, MANIFEST), Expected(MAX_MANIFEST_BYTES), policy)
    manifest = Manifest.from_json(parse_json(data, f"{url}, {MANIFEST}"), where=f"{url}, {MANIFEST}")
    digest = hashlib.sha256(data).hexdigest()
    folder = cache_dir / "remote" / digest[:32]
    expected = {MANIFEST: Expected(MAX_MANIFEST_BYTES, sha256=digest)}
    if manifest.kind == "codes":
        expected |= {name: Expected(max_bytes) for name, max_bytes in VQVAE_FILES.items()}
    for name, content in expected.items():
        while not (folder / name).exists() and not fetch_file(join_url(url, name), folder / name, content, policy):
            time.sleep(POLL_INTERVAL_S)  # another process is downloading it
    return folder


def fetch_shard(url: str, folder: Path, shard: ShardInfo, policy: RetryPolicy) -> bool:
    """Download a shard after its index. Return False if another process is downloading one of them."""
    path = folder / shard.name
    index = Expected(max_index_bytes(shard.samples), sha256=shard.index_sha256)
    tar = Expected(shard.bytes, shard.bytes, shard.sha256)
    for target, expected in ((index_path(path), index), (path, tar)):
        name = target.relative_to(folder).as_posix()
        if not target.exists() and not fetch_file(join_url(url, name), target, expected, policy):
            return False
    return True


@dataclass(frozen=True)
class CacheBudget:
    """How many bytes of shards may be in the cache folder.

    Attributes:
        total_bytes: all shards.
        reserved_bytes: part of it for shards outside the training order: validation and previews.
    """

    total_bytes: int
    reserved_bytes: int


def compute_cache_budget(manifest: Manifest, *, order: str, window_shards: int, cache_gib: float) -> CacheBudget:
    """Divide data.cache_gib between the training order and all other shards.

    The windowed order needs the current and the next window. The full order reads from all shards at once, so it
    needs the whole train split.

    Raises:
        DataError: data.cache_gib is too small.
    """
    total = int(cache_gib * 2**30)
    train = manifest.splits["train"].shards if "train" in manifest.splits else ()
    others = [shard.bytes for name, split in manifest.splits.items() if name != "train" for shard in split.shards]
    reserved = sum(sorted(others, reverse=True)[:window_shards])
    sizes = sorted((shard.bytes for shard in train), reverse=True)
    needed = reserved + (sum(sizes) if order == "full" else sum(sizes[: 2 * window_shards]))
    if needed > total:
        what = "the whole train split (data.order full)" if order == "full" else "two windows (data.window_shards)"
        raise DataError.of("data.cache_gib", cache_gib, f"at least {needed / 2**30:.3f} GiB: {what} of remote shards")
    return CacheBudget(total, reserved)


@dataclass(frozen=True)
class PrefetchJob:
    """Input of a prefetch process.

    Attributes:
        url: URL of the dataset.
        folder: its folder in the cache.
        attempt_dir: folder of this attempt of the run, `folder`/starts/TOKEN.
        budget: bytes that may be in the cache.
        order, window_shards, seed: the training order.
        policy: retries of the downloads.
    """

    url: str
    folder: str
    attempt_dir: str
    budget: CacheBudget
    order: Literal["windowed", "full"]
    window_shards: int
    seed: int
    policy: RetryPolicy = field(default_factory=RetryPolicy)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "PrefetchJob":
        """Build a job from the values of `dataclasses.asdict`."""
        nested = {"budget": CacheBudget(**values["budget"]), "policy": RetryPolicy(**values["policy"])}
        return cls(**(values | nested))


class Prefetcher:
    """Starts a prefetch process and sends it the position of the run."""

    def __init__(self, job: PrefetchJob) -> None:
        self._attempt_dir = Path(job.attempt_dir)
        for name in ("wanted", "failed"):
            (self._attempt_dir / name).mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "vqdist.data.remote.prefetch_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(part or os.getcwd() for part in sys.path)},
        )
        assert self._process.stdin is not None
        self._stdin: IO[bytes] = self._process.stdin
        self._send({"job": asdict(job)})
        # A prefetch process that hangs must not block training; readers time out when no shard arrives.
        os.set_blocking(self._stdin.fileno(), False)

    @property
    def pid(self) -> int:
        return self._process.pid

    def report_position(self, position: int) -> None:
        """Report that all samples before a position of the run have been consumed."""
        self._send({"position": position})

    def _send(self, message: dict[str, Any]) -> None:
        with suppress(BrokenPipeError, BlockingIOError):
            os.write(self._stdin.fileno(), json.dumps(message).encode() + b"\n")

    def close(self) -> None:
        """End the process. Downloaded shards stay in the cache."""
        self._send({"end": True})  # closing the pipe is not enough: loader workers hold a copy of it
        self._stdin.close()
        try:
            self._process.wait(CLOSE_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._attempt_dir, ignore_errors=True)  # if the process did not remove it


class ShardGate:
    """Blocks a reader until a shard is in the cache folder. Picklable, for loader workers.

    Args:
        folder: the dataset's folder in the cache.
        attempt_dir: folder of this attempt of the run; it must exist before a reader waits.
        timeout_s: most seconds to wait for one shard.
    """

    def __init__(self, folder: Path, attempt_dir: Path, timeout_s: float) -> None:
        self._folder, self._attempt_dir, self._timeout_s = folder, attempt_dir, timeout_s

    def wait_for(self, name: str) -> None:
        """Return once a shard and its index are in the cache.

        Raises:
            DamagedDataError: it does not exist, or differs from the manifest.
            DataError: it cannot be written to the cache folder.
            FetchError: its download failed after all retries.
            StalledError: the prefetch process ended, or the shard did not arrive within timeout_s seconds.
        """
        path = self._folder / name
        deadline = time.monotonic() + self._timeout_s
        while not path.exists():
            self._raise_failure(name)
            if not self._attempt_dir.exists() or is_released(self._attempt_dir / "alive"):
                raise StalledError(f"data.path: the prefetch process has ended; {name} is missing")
            if time.monotonic() > deadline:
                raise StalledError(f"data.path: {name} did not arrive within run.timeout_s ({self._timeout_s:g} s)")
            mark = self._attempt_dir / "wanted" / mark_name(name)
            if not mark.exists():
                with suppress(FileNotFoundError):  # the attempt's folder is being created or removed
                    mark.touch()
            time.sleep(POLL_INTERVAL_S)

    def _raise_failure(self, name: str) -> None:
        try:
            failure = json.loads((self._attempt_dir / "failed" / mark_name(name)).read_text())
        except FileNotFoundError:
            return
        if "cache" in failure:
            raise DataError.of("data.cache_dir", failure["cache"], CACHE_REMEDY)
        if "message" in failure:
            raise FetchError(failure["message"])
        raise DamagedDataError([Problem(**problem) for problem in failure["problems"]])


class DownloadGate:
    """Downloads each shard of a dataset at a URL before it is first read, and keeps it in the cache.

    For commands that read a split once; training has a `Prefetcher`.

    Args:
        url: URL of the dataset.
        folder: its folder in the cache.
    """

    def __init__(self, url: str, folder: Path, manifest: Manifest, policy: RetryPolicy | None = None) -> None:
        self._url, self._folder, self._policy = url, folder, policy or RetryPolicy()
        self._shards = {shard.name: shard for split in manifest.splits.values() for shard in split.shards}

    def wait_for(self, name: str) -> None:
        """Return once a shard and its index are in the cache.

        Raises:
            DataError: it does not exist, or differs from the manifest.
            FetchError: its download failed after all retries.
        """
        while not fetch_shard(self._url, self._folder, self._shards[name], self._policy):
            time.sleep(POLL_INTERVAL_S)  # another process is downloading it


def mark_name(shard: str) -> str:
    """Return the name of a shard's file in wanted/ and failed/; names of shards contain no percent sign."""
    return shard.replace("/", "%")


def failure_to_json(error: UserError | FetchError) -> dict[str, Any]:
    """Return an error as the JSON values from which `ShardGate` raises it again."""
    if isinstance(error, UserError):
        return {"problems": [vars(problem) for problem in error.problems]}
    return {"message": str(error)}


def is_released(lock: Path) -> bool:
    """Whether a lock file exists and the process that held it has ended."""
    try:
        with open(lock, "rb") as file:
            lock_file(file, shared=True, wait=False)
    except (FileNotFoundError, BlockingIOError):
        return False
    return True
