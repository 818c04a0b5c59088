"""Check a run without torch, whose import takes seconds, to report a wrong configuration at once."""

from collections.abc import Collection
from pathlib import Path

from vqdist.config.schema import RunConfig
from vqdist.data.dataset_path import find_path_problem
from vqdist.data.remote.download import is_url
from vqdist.data.shards.manifest import MANIFEST, load_manifest
from vqdist.data.shards.tar_lists import names_tars
from vqdist.foundation.errors import DataError, Problem
from vqdist.foundation.launcher_environment import (
    launcher_setting_problems,
    number_problems,
    read_world_size,
    world_problems,
)
from vqdist.runs.dataset_checks import dataset_kind_problems, rank_count_problems, sample_count_problems
from vqdist.runs.resume_checks import is_finished, keep_chosen_values, run_dir_problems
from vqdist.runs.training_data import name_data_source


def needs_torch(config: RunConfig) -> bool:
    """Return whether the configuration asks for a device, a precision or weights that only torch can check."""
    is_plain = config.run.device in {"auto", "cpu"} and config.train.precision in {"auto", "fp32"}
    return not is_plain or config.checkpoint.resume not in {"auto", "never"}


def find_early_problems(config: RunConfig, known: Collection[Problem]) -> list[Problem]:
    """Return the problems of launcher, run directory and local dataset that can be found without torch.

    Args:
        known: problems of the configuration. Where the file or the task is wrong, the data and the run are not compared
            with the defaults, which the user did not ask for.
    """
    problems = (number_problems() or world_problems()) + launcher_setting_problems()
    if {"--config", "task"} & {problem.where for problem in known}:
        return problems
    problems += run_dir_problems(keep_chosen_values(config)) + rank_count_problems(config, read_world_size())
    return problems if is_finished(config) else problems + _find_data_problems(config)


def _find_data_problems(config: RunConfig) -> list[Problem]:
    """Return the problems of a local dataset; URLs are not fetched, and third-party shards are not indexed."""
    path = config.data.path
    if path is None or is_url(path) or names_tars(path):
        return []
    if Path(path).is_dir() and not (Path(path) / MANIFEST).exists():
        return []
    if problem := find_path_problem(path):
        return name_data_source(config, [_prefix(problem)])
    try:
        manifest = load_manifest(path)
    except DataError as error:
        return name_data_source(config, [_prefix(problem) for problem in error.problems])
    return dataset_kind_problems(config, manifest, path) or sample_count_problems(config, manifest, path)


def _prefix(problem: Problem) -> Problem:
    return Problem(f"data.path: {problem.where}", problem.found, problem.expected)
