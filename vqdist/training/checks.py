"""Every check of a run before anything of it is allocated, so that all that is wrong is told at once."""

import os
import shutil
import sys
from pathlib import Path

import torch

from vqdist.config.schema import RunConfig
from vqdist.data.open import open_dataset
from vqdist.data.remote.download import is_url
from vqdist.data.remote.remote_dataset import compute_cache_budget
from vqdist.data.shards.manifest import MANIFEST, Manifest
from vqdist.distributed.process_group import device_problems, launch_problems
from vqdist.foundation.errors import CheckpointError, DataError, Problem, UserError
from vqdist.foundation.launcher_environment import read_world_size
from vqdist.models.io import fingerprint
from vqdist.runs.checkpoint import read_newest_state
from vqdist.runs.run_dir import is_over, run_dir_problems
from vqdist.training.build import COMPANION, demo_folder
from vqdist.training.precision import precision_problems
from vqdist.training.state import find_misfits, read_weights
from vqdist.training.tasks.tasks import get_task


def find_problems(config: RunConfig) -> list[Problem]:
    """Return all that is wrong with a run before anything of it is allocated: launch, run directory, data, weights.

    Of a run that is over, launch and run directory alone: it needs its data no more.
    """
    problems = launch_problems(config.run.device) + device_problems(config.run.device) + run_dir_problems(config)
    if not problems and is_over(config):
        return []
    world_size = read_world_size()
    if config.data.global_batch_size < world_size:
        found = f"{config.data.global_batch_size} samples for {world_size} ranks"
        problems.append(Problem("data.global_batch_size", found, "at least one sample per rank"))
    problems += precision_problems(config.train.precision, config.run.device)
    problems += _compiler_problems(config)
    return problems + data_problems(config)


def _compiler_problems(config: RunConfig) -> list[Problem]:
    """Return what torch.compile lacks: it writes C++ for a CPU, and a little of it beside every GPU's kernels."""
    compiler = os.environ.get("CXX") or "g++"
    if not config.train.compile or shutil.which(compiler) or (sys.platform == "darwin" and shutil.which("clang++")):
        return []
    return [Problem("train.compile", f"no {compiler}", "a C++ compiler on the PATH or named by CXX, or false")]


def data_problems(config: RunConfig) -> list[Problem]:
    """Return what is wrong with the data and the first weights of a run.

    The demo's data are looked at where they are there; their maker asks again.
    """
    folder = demo_folder(config)
    path = config.data.path or (str(folder) if (folder / MANIFEST).exists() and config.task == "vqvae" else None)
    if path is None:
        return _weights_problems(config, None)
    task = get_task(config.task)
    try:
        folder, manifest = open_dataset(path, config.data.cache_dir)
        if manifest.kind != task.data_kind:
            made_by = "vqdist.shard" if task.data_kind == "images" else "vqdist.encode"
            expected = f"{task.data_kind} for task {config.task}: made by {made_by}"
            found = f"a data set of {manifest.kind} in {path}"
            return [Problem("data.path", found, expected), *_weights_problems(config, None)]
        problems = task.problems(config, manifest) + _changed_data_problems(config, manifest)
        samples = manifest.splits["train"].samples if "train" in manifest.splits else 0
        if samples < config.data.global_batch_size:
            found = f"{config.data.global_batch_size} for {samples} samples of train in {path}"
            problems.append(Problem("data.global_batch_size", found, "no more than there are, or more data"))
        if manifest.kind == "codes":
            problems += _companion_problems(folder, manifest)
        if is_url(path):
            problems += _room_problems(config, manifest)
    except (DataError, CheckpointError) as error:
        problems = _at("data.path", error.problems)
        return problems + _weights_problems(config, None)
    return problems + _weights_problems(config, None if problems else manifest)


def _changed_data_problems(config: RunConfig, manifest: Manifest) -> list[Problem]:
    state = read_newest_state(config.run_dir / "checkpoints") if config.checkpoint.resume != "never" else None
    before = str(state.get("data_fingerprint")) if state else manifest.fingerprint
    if before == manifest.fingerprint or config.data.allow_changed:
        return []
    found = f"another data set than the checkpoint's ({manifest.fingerprint[:12]}, not {before[:12]})"
    return [Problem("data.path", found, "the same data; --data.allow_changed true goes on with this one")]


def _room_problems(config: RunConfig, manifest: Manifest) -> list[Problem]:
    data = config.data
    try:
        compute_cache_budget(manifest, order=data.order, window_shards=data.window_shards, cache_gib=data.cache_gib)
    except DataError as error:
        return error.problems
    return []


def _companion_problems(folder: Path, manifest: Manifest) -> list[Problem]:
    found = fingerprint(folder / COMPANION)
    if found == manifest.vqvae_fingerprint:
        return []
    where = f"{folder / COMPANION}"
    return [
        Problem(where, f"VQ-VAE {found[:12]}", f"VQ-VAE {str(manifest.vqvae_fingerprint)[:12]}, which made the codes")
    ]


def _weights_problems(config: RunConfig, manifest: Manifest | None) -> list[Problem]:
    """Return why the weights of checkpoint.resume cannot start this run; without a manifest, whether they are there."""
    path = config.checkpoint.resume
    if path in {"auto", "never"}:
        return []
    try:
        weights = read_weights(path)
    except UserError as error:
        return _at(f"checkpoint.resume {path}", error.problems)
    if manifest is None:
        return []
    with torch.device("meta"):  # names and shapes, without memory
        model = get_task(config.task).build(config, manifest, None)
    return _at(f"checkpoint.resume {path}", find_misfits(model, weights))


def _at(where: str, problems: list[Problem]) -> list[Problem]:
    return [Problem(f"{where}: {item.where}", item.found, item.expected) for item in problems]
