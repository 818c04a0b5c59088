"""Where a run writes and reads: renames, syncs, clocks, room, and how fast samples come."""

import os
import shutil
import socket
import time
from pathlib import Path

import numpy as np

from vqdist.config.schema import RunConfig
from vqdist.data.shards.manifest import MANIFEST, Manifest, load_manifest
from vqdist.diagnosis.report import Check, of_problems
from vqdist.foundation.errors import DataError, Problem

SLOW_SYNC_S = 1.0
MOST_CLOCK_SKEW_S = 2.0
READ_FOR_S = 2.0
GIB = 2**30


def nearest_folder(path: Path) -> Path:
    """Return the path itself or the first above it that is there."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path


def check_file_system(run_dir: Path) -> Check:
    """Try what checkpoints rely on, where the run will write: sync, rename over a file, and the server's clock."""
    folder = nearest_folder(run_dir)
    name = "file system"
    if not folder.is_dir():
        return Check(name, "mend", f"{folder} is a file", "a run.dir that can be made")
    own = f".vqdist-doctor-{socket.gethostname()}-{os.getpid()}"
    first, second = folder / f"{own}.a", folder / f"{own}.b"
    try:
        before = time.time()
        for path in (first, second):
            with path.open("wb") as file:
                file.write(os.urandom(1 << 20))
                file.flush()
                os.fsync(file.fileno())
        took_s = (time.time() - before) / 2
        skew_s = first.stat().st_mtime - time.time()
        wanted = second.read_bytes()
        second.replace(first)
        if first.read_bytes() != wanted or second.exists():
            return Check(name, "mend", f"{folder}: a rename does not replace", "a file system with atomic renames")
    except OSError as error:
        return Check(name, "mend", f"{folder}: {error.strerror or error}", "run.dir where this user can write")
    finally:
        for path in (first, second):
            path.unlink(missing_ok=True)
    figures = {"sync_s": took_s, "clock_skew_s": skew_s}
    found = f"{folder}: rename replaces, 1 MiB synced in {took_s * 1000:.0f} ms, clock {skew_s:+.1f} s off"
    if abs(skew_s) > MOST_CLOCK_SKEW_S:
        return Check(name, "note", found, "synchronised clocks (logs of nodes will not line up)", figures)
    if took_s > SLOW_SYNC_S:
        return Check(name, "note", found, "a faster file system for run.dir, or fewer checkpoints", figures)
    return Check(name, "ok", found, figures=figures)


def check_space(run_dir: Path, checkpoint_bytes: int, keep: int) -> Check:
    """Compare the room for the run with that for its checkpoints, one in the making, and the model."""
    need = checkpoint_bytes * (keep + 2)
    free = shutil.disk_usage(nearest_folder(run_dir)).free
    found = f"{free / GIB:,.1f} GiB free"
    if checkpoint_bytes:
        found += f", {need / GIB:,.2f} GiB for {keep} checkpoints of {checkpoint_bytes / 2**20:,.1f} MiB and the model"
    figures = {"free_bytes": float(free), "checkpoint_bytes": float(checkpoint_bytes)}
    if free < max(need, 2**28):
        return Check("space", "mend", found, "more room for run.dir, or a smaller checkpoint.keep", figures)
    return Check("space", "ok", found, figures=figures)


def check_manifest(config: RunConfig, *, sizes: bool = True) -> tuple[list[Check], Manifest | None]:
    """Read the data set's manifest and see that every shard is there in its size.

    Args:
        sizes: look at the shards; not for each of a thousand ranks.
    """
    path = config.data.path
    if path is None:
        return [Check("data", "ok", "the demo's, made at the first start")], None
    if "://" in path:
        return [Check("data", "note", f"{path}: a remote data set is looked at when the run starts")], None
    try:
        manifest = load_manifest(path)
    except DataError as error:
        # Shards that somebody else made have no manifest; they are indexed on first use.
        if Path(path).is_dir() and not (Path(path) / MANIFEST).exists() and any(Path(path).rglob("*.tar")):
            return [Check("data", "note", f"{path}: shards without a manifest, indexed on first use")], None
        return of_problems("data", error.problems, ""), None
    problems = []
    for split in manifest.splits.values():
        for shard in split.shards if sizes else ():
            size = _size(Path(path) / shard.name)
            if size != shard.bytes:
                problems.append(Problem(shard.name, f"{size} bytes", f"{shard.bytes} bytes, as dataset.json says"))
    counts = ", ".join(f"{split.samples:,} {name}" for name, split in manifest.splits.items())
    return of_problems("data", problems[:5], f"{path}: {manifest.kind}, {counts}"), manifest


def measure_reading(path: str, manifest: Manifest, rank: int, world_size: int) -> float:
    """Return how many samples of train this rank reads and decodes in a second, in the worst case of no order."""
    from vqdist.data.loading.pipeline import SampleDecoder
    from vqdist.data.shards.reader import ShardReader

    reader, decode = ShardReader(path, manifest, "train"), SampleDecoder(manifest)
    share = np.random.default_rng(rank).permutation(len(reader))[rank % max(len(reader), 1) :: world_size]
    start = time.perf_counter()
    count = 0
    for index in np.resize(share if len(share) else np.arange(len(reader)), 1 << 20):
        decode(reader.read(int(index)))
        count += 1
        if time.perf_counter() - start > READ_FOR_S:
            break
    return count / (time.perf_counter() - start)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
