"""Checks of files: the file system of the run directory, disk space, and the shards of the dataset."""

import os
import socket
import time
from pathlib import Path

from vqdist.config.schema import RunConfig
from vqdist.data.cache_dir import cache_dir_problems, free_bytes, nearest_folder
from vqdist.data.dataset_path import find_folder_problem, find_path_problem
from vqdist.data.shards.manifest import MANIFEST, Manifest, load_manifest
from vqdist.data.shards.shard_files import ShardFiles, find_shards
from vqdist.data.shards.tar_lists import list_local_tars, names_tars
from vqdist.diagnosis.check import Check, checks_from_problems
from vqdist.foundation.atomic_files import write_access_problems
from vqdist.foundation.errors import DataError, Problem, limit_problems
from vqdist.runs.training_data import name_data_source

MAX_SYNC_S = 1.0
MAX_CLOCK_SKEW_S = 2.0
MIN_FREE_BYTES = 2**28
GIB = 2**30
SYNCHRONISE = "synchronise the clocks: the log times of different nodes do not match"


def check_file_system(run_dir: Path) -> Check:
    """Check what checkpoints rely on, in the first existing folder above the run: fsync, atomic rename, the clock."""
    name, folder = "file system", nearest_folder(run_dir)
    if problems := write_access_problems("run.dir", run_dir, folder=True):
        return checks_from_problems(name, problems)[0]
    prefix = f".vqdist-doctor-{socket.gethostname()}-{os.getpid()}"
    first, second = folder / f"{prefix}.a", folder / f"{prefix}.b"
    try:
        start_s = time.time()
        for path in (first, second):
            with path.open("wb") as file:
                file.write(os.urandom(1 << 20))
                file.flush()
                os.fsync(file.fileno())
        sync_s = (time.time() - start_s) / 2
        skew_s = first.stat().st_mtime - time.time()
        content = second.read_bytes()
        second.replace(first)
        if first.read_bytes() != content or second.exists():
            return Check(
                name, "fix", f"{folder}: rename does not replace a file", "use a file system with atomic renames"
            )
    except OSError as error:
        return Check(name, "fix", f"{folder}: {error.strerror or error}", "set run.dir to a writable folder")
    finally:
        for path in (first, second):
            path.unlink(missing_ok=True)
    figures = {"sync_s": sync_s, "clock_skew_s": skew_s}
    found = f"{folder}: rename is atomic, 1 MiB synced in {sync_s * 1000:.0f} ms, clock skew {skew_s:+.1f} s"
    if abs(skew_s) > MAX_CLOCK_SKEW_S:
        return Check(name, "note", found, SYNCHRONISE, figures)
    if sync_s > MAX_SYNC_S:
        return Check(name, "note", found, "set run.dir to a faster file system, or write fewer checkpoints", figures)
    return Check(name, "ok", found, figures=figures)


def check_space(run_dir: Path, checkpoint_bytes: int, keep: int) -> Check:
    """Check that the disk holds `keep` checkpoints (of 0 bytes if unknown), one being written, and the model."""
    need, free = checkpoint_bytes * (keep + 2), free_bytes(run_dir)
    found = f"{free / GIB:,.1f} GiB free"
    if checkpoint_bytes:
        found += f", {need / GIB:,.2f} GiB for {keep} checkpoints of {checkpoint_bytes / 2**20:,.1f} MiB and the model"
    figures = {"free_bytes": float(free), "checkpoint_bytes": float(checkpoint_bytes)}
    if free < max(need, MIN_FREE_BYTES):
        return Check("space", "fix", found, "set run.dir to a disk with more space, or lower checkpoint.keep", figures)
    return Check("space", "ok", found, figures=figures)


def check_dataset(config: RunConfig, *, compare_sizes: bool = True) -> tuple[list[Check], Manifest | None]:
    """Read the manifest of a local dataset, return it, and compare the sizes of the shards with it.

    Args:
        compare_sizes: False on all ranks but one, because thousands of ranks would overload the file system.
    """
    name, path = "data", config.data.path
    if path is None:
        return [Check(name, "ok", "the demo dataset, written when the run first starts")], None
    unwritable = checks_from_problems("cache folder", cache_dir_problems(config.data.cache_dir))
    if "://" in path:
        return unwritable or [Check(name, "note", f"{path}: a remote dataset is checked when the run starts")], None
    if problem := find_path_problem(path):
        return checks_from_problems(name, name_data_source(config, [problem])), None
    indexed_later = Check(name, "note", f"{path}: third-party shards, indexed when the run first starts")
    if names_tars(path) and not Path(path).is_dir():
        try:
            list_local_tars(path)
        except DataError as error:
            return checks_from_problems(name, name_data_source(config, error.problems)), None
        return unwritable or [indexed_later], None
    try:
        manifest = load_manifest(path)
    except DataError as error:
        folder = Path(path)
        if (
            folder.is_dir()
            and not (folder / MANIFEST).exists()
            and (shards := find_shards(folder)) != ShardFiles((), ())
        ):
            if problem := find_folder_problem(folder, shards):
                return checks_from_problems(name, [problem]), None
            return unwritable or [indexed_later], None
        return checks_from_problems(name, name_data_source(config, error.problems)), None
    problems = []
    for shard in (shard for split in manifest.splits.values() for shard in split.shards if compare_sizes):
        file = Path(path) / shard.name
        size = file.stat().st_size if file.is_file() else None
        if size != shard.bytes:
            found = "no such file" if size is None else f"{size:,} bytes"
            problems.append(Problem(shard.name, found, f"{shard.bytes:,} bytes, as in {MANIFEST}"))
    counts = ", ".join(f"{split.samples:,} {name}" for name, split in manifest.splits.items())
    failed = checks_from_problems(name, limit_problems(problems, path))
    return failed or [Check(name, "ok", f"{path}: {manifest.kind}, {counts}")], manifest
