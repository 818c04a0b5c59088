"""Load the configuration of a run from defaults, a YAML file and flags; validate once and report all problems."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from vqdist.config.key_suggestions import suggest
from vqdist.config.model_config import MODEL_CONFIGS, ModelConfig
from vqdist.config.schema import CONFIGS, ConfigFile, RunConfig, list_keys, run_config_type
from vqdist.config.section import validate
from vqdist.foundation.errors import ConfigError, Problem, list_examples
from vqdist.foundation.shown_values import show_found, show_type


def load_config(
    path: str | Path | None,
    flags: Sequence[tuple[str, str]],
    models: Mapping[str, type[ModelConfig]] = MODEL_CONFIGS,
) -> tuple[RunConfig | None, list[Problem]]:
    """Merge defaults, a file and flags, and validate once.

    Args:
        path: a YAML file, or the name of a shipped one; None for the defaults.
        flags: ("section.key", text) pairs; the last value of a key wins.
        models: task name -> keys of its model.
    Returns:
        The configuration and every problem found. Keys with a problem have their defaults, so that the caller can look
        for more problems; None if no configuration can be built.
    """
    problems: list[Problem] = []
    values = {} if path is None else _read_yaml(path, problems)
    file = ConfigFile(None if path is None else str(path), _list_set_keys(values) - {name for name, _ in flags})
    for name, text in flags:
        _set(values, name, parse_flag_value(text), problems)
    task = values.get("task", next(iter(models)))
    if task not in list(models):  # a list: a YAML value may not be hashable
        problems.append(Problem("task", show_found(task), " or ".join(models)))
        task = next(iter(models))
    values = {**{name: {} if value is None else value for name, value in values.items()}, "task": task}
    config, found = validate(
        run_config_type(task, models[task]), values, lambda location: ".".join(map(str, location[:2]))
    )
    problems += [_suggest_key(problem, task, models) for problem in found]
    if config is None:
        return None, problems
    if config.run.name is None:
        config = _name_run(config, "demo" if path is None else _name_after(path), os.environ)
    return config.with_file(file), problems + config.find_conflicts()


def find_config(path: str | Path) -> Path:
    """Return the file, or the shipped configuration that NAME, NAME.yaml or configs/NAME.yaml refers to."""
    file = Path(path)
    if file.is_file():
        return file
    shipped = CONFIGS / f"{file.stem}.yaml"
    if file.parent in (Path(), Path("configs")) and file.suffix in ("", ".yaml") and shipped.is_file():
        return shipped
    near = suggest(file.stem, shipped_configs())
    hint = f"; did you mean {near}?" if near else ""
    expected = f"a YAML file or one of {', '.join(shipped_configs())}{hint}"
    raise ConfigError.of("--config", f"{str(path)!r}, which is not a file", expected)


def shipped_configs() -> list[str]:
    """Return the names of the configurations that the package contains."""
    return sorted(file.stem for file in CONFIGS.glob("*.yaml"))


def parse_flag_value(text: str) -> Any:
    """Return the value of a flag's text: null is None, [a, b] a list; the schema parses everything else.

    The Python spelling None is null too, because the sweeps of W&B write it.
    """
    if text in ("null", "None"):
        return None
    if text.startswith("["):
        try:
            return yaml.safe_load(text)
        except (ValueError, yaml.YAMLError):
            return text
    return text


def _name_after(path: str | Path) -> str:
    return re.sub(r"[^\w.-]+", "-", Path(path).stem).strip(".") or "run"


def _name_run(config: RunConfig, name: str, environ: Mapping[str, str]) -> RunConfig:
    """Return the configuration of a run without run.name with a name; every run of a W&B sweep gets its own."""
    if config.tracking.name is None and environ.get("WANDB_NAME"):
        config = config.replace("tracking", name=environ["WANDB_NAME"])
    sweep_run = [environ.get("WANDB_SWEEP_ID"), environ.get("WANDB_RUN_ID")]
    return config.replace("run", name="-".join([name, *filter(None, sweep_run)]) if all(sweep_run) else name)


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML in which a repeated key is an error; by default the last one wins silently."""

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
        problems.append(Problem(str(path), show_type(values), "a mapping of sections"))
        return {}
    return _nest_dotted_keys(values, str(path), problems)


def _nest_dotted_keys(values: Mapping[str, Any], path: str, problems: list[Problem]) -> dict[str, Any]:
    """Return the values of a file with each dotted key, such as `optim.lr: 3e-4`, inside its section."""
    nested = {name: value for name, value in values.items() if not _is_dotted(name)}
    for name, value in values.items():
        section, _, last = str(name).partition(".")
        if not _is_dotted(name):
            continue
        if isinstance(nested.get(section), dict) and last in nested[section]:
            problems.append(Problem(path, f"key {name!r} twice", "each key once"))
        else:
            _set(nested, str(name), value, problems)
    return nested


def _is_dotted(name: object) -> bool:
    return isinstance(name, str) and "." in name


def _list_set_keys(values: Mapping[str, Any]) -> frozenset[str]:
    """Return section.key of each value of a file."""
    sections = {name: keys for name, keys in values.items() if isinstance(keys, dict)}
    inner = {f"{name}.{key}" for name, keys in sections.items() for key in keys}
    return frozenset(inner | {str(name) for name in values.keys() - sections.keys()})


def _set(values: dict[str, Any], name: str, value: Any, problems: list[Problem]) -> None:
    *sections, last = name.split(".")
    for section in sections:
        if values.get(section) is None:
            values[section] = {}
        if not isinstance(values[section], dict):
            problems.append(Problem(name, f"{section} is not a section in the file", "a section"))
            return
        values = values[section]
    values[last] = [value] if name == "tracking.tags" and isinstance(value, str) else value


def _suggest_key(problem: Problem, task: str, models: Mapping[str, type[ModelConfig]]) -> Problem:
    """Return the problem of an unknown key with the task that has it, or with the key that was probably meant."""
    if "extra inputs" not in problem.expected:
        return problem
    sections = list(run_config_type(task, models[task]).model_fields)
    known = [key.name for key in list_keys(task, models)] + sections
    near = suggest(problem.where, known)
    section = problem.where.rpartition(".")[0]
    siblings = [name for name in known if name.startswith(f"{section}.")] or sections
    tasks = [other for other in models if problem.where in [key.name for key in list_keys(other, models)]]
    if tasks:
        hint = f"{problem.where} is a key of task {' and '.join(tasks)}"
    else:
        hint = f"did you mean {near}?" if near else f"one of {list_examples(siblings)}"
    return Problem(problem.where, f"an unknown key (task {task})", f"a known key; {hint}")
