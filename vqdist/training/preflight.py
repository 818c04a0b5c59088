"""Check configuration, data and disk before anything is allocated, so that all problems are reported together."""

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from vqdist.config.schema import RunConfig
from vqdist.data.dataset_path import is_remote_dataset
from vqdist.data.open_dataset import Dataset, open_dataset
from vqdist.data.remote.remote_dataset import compute_cache_budget
from vqdist.data.shards.manifest import MANIFEST, Manifest, load_manifest
from vqdist.distributed.process_group import device_problems, launch_problems
from vqdist.foundation.errors import CheckpointError, DataError, Problem, UserError, limit_problems
from vqdist.foundation.launcher_environment import read_world_size
from vqdist.foundation.progress import print_message
from vqdist.models.io import VQVAE_FOLDER, fingerprint
from vqdist.runs.dataset_checks import dataset_kind_problems, rank_count_problems, sample_count_problems
from vqdist.runs.resume_checks import Contradiction, is_finished, run_dir_problems
from vqdist.runs.training_data import changed_data_problems, finished_data_problems, name_data_source
from vqdist.training.dataset_choices import choose_for_dataset
from vqdist.training.precision_support import precision_problems
from vqdist.training.state import find_mismatches, read_weights
from vqdist.training.tasks.task import Task

DEMO_FOLDER = "demo-data"
STAGED_DATA = "VQDIST_STAGED_DATA"


def demo_folder(config: RunConfig) -> Path:
    """Return the folder of the synthetic dataset that a run without data.path makes at its first attempt."""
    return Path(config.run.dir) / DEMO_FOLDER


def check_run(config: RunConfig, task: type[Task]) -> tuple[list[Problem], Dataset | None]:
    """Return the problems of a run (launch, run directory, data, weights) and its dataset.

    A finished run no longer needs its data, but is not started again with others: only launch, run directory and the
    identity of the data are checked. The dataset is None if it has problems, or is the synthetic one and not generated
    yet.
    """
    problems = launch_problems(config.run.device) + device_problems(config.run.device) + run_dir_problems(config)
    if not problems and is_finished(config):
        return finished_data_problems(config), None
    problems += rank_count_problems(config, read_world_size())
    problems += precision_problems(config.train.precision, config.run.device) + _compiler_problems(config)
    found_problems, dataset = check_data(config, task)
    # A value that cannot be kept is refused once, not also for what is wrong with it.
    refused = {problem.where for problem in problems if isinstance(problem, Contradiction)}
    return problems + [problem for problem in found_problems if problem.where not in refused], dataset


def _compiler_problems(config: RunConfig) -> list[Problem]:
    """Check that torch.compile finds a C++ compiler: it generates C++ for CPUs and launchers for GPU kernels."""
    compiler = os.environ.get("CXX") or "g++"
    if not config.train.compile or shutil.which(compiler) or (sys.platform == "darwin" and shutil.which("clang++")):
        return []
    return [Problem("train.compile", f"no {compiler}", "a C++ compiler on the PATH or named by CXX, or false")]


def check_data(config: RunConfig, task: type[Task]) -> tuple[list[Problem], Dataset | None]:
    """Return the problems of the data and of the initial weights of a run, and its dataset."""
    path, kind = config.data.path, task.config_type.data_kind
    if path is None and kind == "images" and (demo_folder(config) / MANIFEST).exists():
        path = str(demo_folder(config))
    if path is None:
        return _weights_problems(config, task, None), None
    try:
        dataset = open_dataset(
            path,
            config.data.cache_dir,
            image_key=config.data.image_key,
            skip_unusable=config.data.on_error == "skip",
            cache_gib=config.data.cache_gib,
        )
        dataset = use_staged_copy(dataset)
        config = choose_for_dataset(config, dataset.manifest)
        problems = _dataset_problems(config, task, dataset, path)
    except (DataError, CheckpointError) as error:
        unreadable = name_data_source(config, _prefix("data.path", error.problems))
        return unreadable + _weights_problems(config, task, None), None
    problems += _weights_problems(config, task, None if problems else dataset)
    return problems, None if problems else dataset


def use_staged_copy(dataset: Dataset, environ: Mapping[str, str] = os.environ) -> Dataset:
    """Return the dataset with the folder of its copy on a disk of this node, if slurm/train.sbatch has made one.

    Its path stays that of the original, because the copy is deleted when the job ends.

    Raises:
        DataError: the copy is gone, or is of another dataset.
    """
    if not (copy := environ.get(STAGED_DATA)):
        return dataset
    if load_manifest(copy).fingerprint != dataset.manifest.fingerprint:
        raise DataError.of(STAGED_DATA, f"{copy}, another dataset than {dataset.path}", "its copy, or no value")
    print_message(f"{dataset.path}: read from {copy}, its copy on this node")
    return replace(dataset, folder=Path(copy))


def _dataset_problems(config: RunConfig, task: type[Task], dataset: Dataset, path: str) -> list[Problem]:
    manifest = dataset.manifest
    if problems := dataset_kind_problems(config, manifest, path):
        return problems
    problems = task.find_problems(config, manifest) + changed_data_problems(config, manifest)
    problems += sample_count_problems(config, manifest, path)
    if manifest.kind == "codes":
        problems += _vqvae_problems(dataset)
    if is_remote_dataset(path):
        problems += _cache_problems(config, manifest)
    return problems


def _cache_problems(config: RunConfig, manifest: Manifest) -> list[Problem]:
    data = config.data
    try:
        compute_cache_budget(manifest, order=data.order, window_shards=data.window_shards, cache_gib=data.cache_gib)
    except DataError as error:
        return error.problems
    return []


def _vqvae_problems(dataset: Dataset) -> list[Problem]:
    folder, expected = dataset.folder / VQVAE_FOLDER, dataset.manifest.vqvae_fingerprint or "null"
    found = fingerprint(folder)
    if found == expected:
        return []
    return [Problem(str(folder), f"VQ-VAE {found[:12]}", f"VQ-VAE {expected[:12]}, which encoded the dataset")]


def _weights_problems(config: RunConfig, task: type[Task], dataset: Dataset | None) -> list[Problem]:
    """Check that the weights of checkpoint.resume fit the model; without a dataset, only that they can be read."""
    path = config.checkpoint.resume
    if path in {"auto", "never"}:
        return []
    try:
        weights = read_weights(path)
    except UserError as error:
        return _prefix(f"checkpoint.resume {path}", error.problems)
    if dataset is None:
        return []
    with torch.device("meta"):  # names and shapes, without memory
        model = task(config, dataset.manifest, dataset.folder, torch.device("meta")).build()
    return _prefix(f"checkpoint.resume {path}", limit_problems(find_mismatches(model, weights), "weights"))


def _prefix(where: str, problems: list[Problem]) -> list[Problem]:
    # A problem that names a key of the configuration already says where it is.
    return [
        item if item.where.startswith("data.") else Problem(f"{where}: {item.where}", item.found, item.expected)
        for item in problems
    ]
