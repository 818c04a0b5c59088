"""Whether the data of a configuration are those that its run was trained on."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from vqdist.config.schema import RunConfig
from vqdist.data.shards.manifest import Manifest, load_manifest
from vqdist.foundation.errors import ConfigError, DataError, FetchError, Problem, UserError
from vqdist.runs.resume_checks import Contradiction
from vqdist.runs.run_dir import RunDir, read_run_config

NEW_RUN = "choose another --run.name"
ALLOW = "or continue with these data by --data.allow_changed true"


def describe_shape(manifest: Manifest) -> str:
    """Return kind and size of the samples, for example `images of 64 x 64 x 3`."""
    if manifest.grid is None:
        return f"images of {' x '.join(map(str, (*manifest.image_size, manifest.channels)))}"
    return f"maps of {' x '.join(map(str, manifest.grid))} codes out of {manifest.num_codes}"


def changed_data_problems(config: RunConfig, manifest: Manifest) -> list[Problem]:
    """Return the problem of a run that would continue with other data than those of its newest checkpoint.

    Args:
        manifest: of the data of the configuration.
    """
    if config.checkpoint.resume == "never" or config.data.allow_changed:
        return []
    saved = _read_state(config)
    if saved.get("data_fingerprint") in (None, manifest.fingerprint):
        return []
    shape, found = saved.get("data_shape"), describe_shape(manifest)
    if shape is not None and shape != found:
        return [_describe_change(config, NEW_RUN, shapes=(shape, found))]
    # Without the shape, which earlier versions did not save, continuing may be impossible.
    return [_describe_change(config, NEW_RUN if shape is None else f"{NEW_RUN}, {ALLOW}")]


def finished_data_problems(config: RunConfig) -> list[Problem]:
    """Return the problem of a finished run that is started again with other data. Its own data may be gone."""
    if config.data.allow_changed:
        return []
    is_same = _is_same_place(_read_path(config), config.data.path)
    manifest, problems = (_load_if_present(config.data.path), []) if is_same else _open(config)
    if manifest is not None:
        matches = _is_fingerprint_of(config, manifest)
        is_same = is_same if matches is None else matches
    if is_same:
        return []
    # A path that the user did not give need not be corrected.
    return [_describe_change(config, NEW_RUN), *([] if config.find_file("data.path") else problems)]


def name_data_source(config: RunConfig, problems: list[Problem]) -> list[Problem]:
    """Return problems of data that cannot be read, with the configuration file that gives their path, if one does."""
    file = config.find_file("data.path")
    if file is None or Path(file).absolute() == RunDir(config.run_dir).config.absolute():
        return problems
    before = _read_path(config)
    data = "DIR for other data" if before is None or before == config.data.path else f"{before}, the data of the run"
    source = f"; the configuration {file} gives this path: pass --data.path {data}"
    return [replace(problem, expected=problem.expected + source) for problem in problems]


def _describe_change(config: RunConfig, advice: str, *, shapes: tuple[str, str] = ("", "")) -> Contradiction:
    """Return the problem of data that differ from those of the run."""
    before, now = _read_path(config), config.data.path
    old, new = (f", {shape}" if shape else "" for shape in shapes)
    if _is_same_place(before, now):
        changed = f"from {old[2:]} to {new[2:]}" if old else "since"
        found = f"{config.run_dir} was trained on {_name(before)}, whose contents have changed {changed}"
        return Contradiction("data.path", found, f"restore them, or {advice}")
    file = config.find_file("data.path")
    giver = "you gave" if file is None else f"the configuration {file} gives"
    found = f"{config.run_dir} was trained on {_name(before)}{old}; {giver} {_name(now)}{new}"
    if file is not None:
        advice = f"add --data.path {'null' if before is None else before}, or {advice}"
    return Contradiction("data.path", found, advice)


def _name(path: str | None) -> str:
    return "synthetic slices (null)" if path is None else path


def _read_path(config: RunConfig) -> str | None:
    """Return data.path of the run's configuration; None for the synthetic dataset."""
    try:
        section = read_run_config(config.run_dir).get("data")
    except ConfigError:
        return None
    path = section.get("path") if isinstance(section, dict) else None
    return None if path is None else str(path)


def _is_same_place(first: str | None, second: str | None) -> bool:
    if first is None or second is None:
        return first == second
    return first == second or ("://" not in first + second and Path(first).resolve() == Path(second).resolve())


def _load_if_present(path: str | None) -> Manifest | None:
    """Return the manifest in a local folder; None if it is gone, or the data have no manifest there."""
    try:
        return None if path is None or "://" in path else load_manifest(path)
    except DataError:
        return None


def _open(config: RunConfig) -> tuple[Manifest | None, list[Problem]]:
    """Return the manifest of the data of a configuration, None for the synthetic ones, and why it cannot be read."""
    from vqdist.data.open_dataset import open_dataset

    if config.data.path is None:
        return None, []
    try:
        return open_dataset(config.data.path, config.data.cache_dir).manifest, []
    except UserError as error:
        return None, [Problem(f"data.path: {item.where}", item.found, item.expected) for item in error.problems]
    except FetchError as error:
        return None, [Problem("data.path", str(error), "a dataset that can be read")]


def _read_state(config: RunConfig) -> dict[str, Any]:
    from vqdist.runs.checkpoint import read_newest_state  # imports torch, which doctor --preflight does without

    return read_newest_state(RunDir(config.run_dir).checkpoints) or {}


def _is_fingerprint_of(config: RunConfig, manifest: Manifest) -> bool | None:
    """Return whether a run was trained on a dataset; None if neither its model nor a checkpoint names its data."""
    try:
        card = json.loads((RunDir(config.run_dir).model / "config.json").read_text())
    except (OSError, ValueError):
        card = None
    saved = card.get("data_fingerprint") if isinstance(card, dict) else None
    if saved != manifest.fingerprint:
        saved = _read_state(config).get("data_fingerprint") or saved
    return None if saved is None else saved == manifest.fingerprint
