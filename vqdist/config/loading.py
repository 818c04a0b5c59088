"""A run's configuration from defaults, a YAML file and flags: merged, validated once, with all problems told."""

import difflib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from vqdist.config.schema import CONFIGS, RUN_TYPES, PixelCNNRun, RunConfig, VQVAERun, cross_problems, list_keys
from vqdist.foundation.errors import ConfigError, Problem

_RUN: dict[str, TypeAdapter[Any]] = {"vqvae": TypeAdapter(VQVAERun), "pixelcnn": TypeAdapter(PixelCNNRun)}


def load_config(path: str | Path | None, flags: Sequence[tuple[str, str]]) -> tuple[RunConfig | None, list[Problem]]:
    """Merge defaults, a file and flags, and validate once.

    Args:
        path: a YAML file, or the name of a shipped one; None: the defaults, which are the demo's.
        flags: ("section.key", text) pairs, the last of a key wins.
    Returns:
        The configuration and every problem found. Where there are problems, the keys concerned have
        their defaults, so that what else is wrong can be looked for; None if nothing can be built.
    """
    problems: list[Problem] = []
    values = {} if path is None else _read_yaml(path, problems)
    for name, text in flags:
        _set(values, name, _flag_value(text), problems)
    config = _validate(values, problems)
    if config is None:
        return None, problems
    if config.run.name is None:
        config = config.replace("run", name="demo" if path is None else _name_after(path))
    return config, problems + cross_problems(config)


def find_config(path: str | Path) -> Path:
    """Return the file itself, or the shipped configuration that NAME, NAME.yaml or configs/NAME.yaml stands for."""
    file = Path(path)
    if file.is_file():
        return file
    shipped = CONFIGS / f"{file.stem}.yaml"
    if file.parent in (Path(), Path("configs")) and file.suffix in ("", ".yaml") and shipped.is_file():
        return shipped
    names = ", ".join(sorted(shipped.stem for shipped in CONFIGS.glob("*.yaml")))
    raise ConfigError.of("--config", f"{str(path)!r}, which is no file", f"a YAML file or one of {names}")


def _name_after(path: str | Path) -> str:
    """Return the name of a run after its configuration file: the stem, without what a name cannot hold."""
    return re.sub(r"[^\w.-]+", "-", Path(path).stem).strip(".") or "run"


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML without the silent last-one-wins of repeated keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(item, deep=deep) for item, _ in node.value]
        for item in keys:
            if keys.count(item) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key {item!r} twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _read_yaml(path: str | Path, problems: list[Problem]) -> dict[str, Any]:
    try:
        values = yaml.load(find_config(path).read_text(), _UniqueKeyLoader) or {}
    except ConfigError as error:
        problems += error.problems
        return {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        problems.append(Problem(str(path), " ".join(str(error).split()), "YAML"))
        return {}
    if not isinstance(values, dict):
        problems.append(Problem(str(path), type(values).__name__, "a mapping of sections"))
        return {}
    return values


def _flag_value(text: str) -> Any:
    if text == "null":
        return None
    if text.startswith("["):
        try:
            return yaml.safe_load(text)
        except (ValueError, yaml.YAMLError):
            return text
    return text


def _set(values: dict[str, Any], name: str, value: Any, problems: list[Problem]) -> None:
    *sections, last = name.split(".")
    for section in sections:
        inner = values.get(section)
        if inner is None:
            inner = values[section] = {}
        if not isinstance(inner, dict):
            problems.append(Problem(name, f"{section} is no section in the file", "a section"))
            return
        values = inner
    values[last] = [value] if name == "tracking.tags" and isinstance(value, str) else value


def _validate(values: dict[str, Any], problems: list[Problem]) -> RunConfig | None:
    task = values.get("task", "vqvae")
    if task not in list(_RUN):  # a list: what YAML gives may have no hash
        problems.append(Problem("task", repr(task), "vqvae or pixelcnn"))
        task = "vqvae"
    values = {**{name: {} if value is None else value for name, value in values.items()}, "task": task}
    try:
        return _RUN[task].validate_python(values)
    except ValidationError as error:
        for detail in error.errors():
            problems.append(_problem(detail, task))
            _remove(values, *detail["loc"][:2])
    try:
        return _RUN[task].validate_python(values)
    except ValidationError:
        return None


def _remove(values: dict[Any, Any], section: int | str, name: int | str | None = None) -> None:
    """Take out a key, or a section that is none."""
    inner = values.get(section)
    if name is None or not isinstance(inner, dict):
        values.pop(section, None)
    else:
        inner.pop(name, None)


def _problem(detail: ErrorDetails, task: str) -> Problem:
    loc = [str(part) for part in detail["loc"]]
    name = ".".join(loc[:2])
    if detail["type"] == "extra_forbidden":
        known = [row[0] for row in list_keys(task)] + list(RUN_TYPES[task].model_fields)
        # A known last word is a key put into the wrong section; else the key that is spelt most alike.
        near = [item for item in known if item.rsplit(".", 1)[-1] == loc[-1]]
        near = near or difflib.get_close_matches(name, known, n=1, cutoff=0.6)
        siblings = [item for item in known if item.startswith(loc[0] + ".")] or list(RUN_TYPES[task].model_fields)
        hint = f"did you mean {near[0]}?" if near else f"one of {', '.join(siblings)}"
        return Problem(name, f"an unknown key (task {task})", f"a known key; {hint}")
    expected = next((f"{row[1]}{f' ({row[2]})' if row[2] else ''}" for row in list_keys(task) if row[0] == name), "")
    reason = detail["msg"][0].lower() + detail["msg"][1:]
    return Problem(name, json.dumps(detail["input"], default=str), f"{expected}; {reason}" if expected else reason)
