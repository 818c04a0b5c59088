"""Whether a configuration may start or continue the run in its run directory."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vqdist.config.command_line import show_value
from vqdist.config.loading import load_config
from vqdist.config.model_config import MODEL_CONFIGS
from vqdist.config.schema import RunConfig
from vqdist.foundation.atomic_files import write_access_problems
from vqdist.foundation.errors import ConfigError, Problem, list_examples
from vqdist.foundation.run_status import read_status
from vqdist.runs.run_dir import RunDir, read_run_config

# Keys and sections that determine the result of a run. All others may change when the run is resumed.
FIXED_KEYS = (
    "task",
    "model",
    "optim",
    "run.seed",
    "train.precision",
    "data.global_batch_size",
    "data.order",
    "data.mirror",
    "data.crop",
)
FIXED_KEYS_IF_WINDOWED = ("data.window_shards",)
# Keys and the value that stands for an automatic choice. Later attempts keep what the first attempt chose.
OPEN_VALUES = {
    ("optim", "decay_steps"): None,
    ("train", "precision"): "auto",
    ("data", "mirror"): "auto",
    ("data", "crop"): "auto",
    ("model", "symmetry"): "auto",
}

MANY_KEYS = 10  # more differences mean another configuration, not a change of this one


@dataclass(frozen=True)
class Contradiction(Problem):
    """A value that contradicts those that the run was started with.

    Attributes:
        found: a sentence with both values.
        expected: what to do, in the imperative.
    """

    def __str__(self) -> str:
        sentence = f"{self.found}: {self.expected}"
        return sentence if self.where in sentence else f"{self.where}: {sentence}"


def is_finished(config: RunConfig) -> bool:
    """Tell whether the run has nothing left to do: all steps are done, or it ended early and patience is still set."""
    status = read_status(config.run_dir)
    early = status.get("ended_early") and config.train.patience is not None
    return status.get("state") == "finished" and bool(early or status.get("step", 0) >= config.train.max_steps)


def keep_chosen_values(config: RunConfig) -> RunConfig:
    """Return the configuration with its open values replaced by those that the run's first attempt chose, if any."""
    first, _ = load_saved_config(config)
    if first is None:
        return config
    for (section, name), open_value in OPEN_VALUES.items():
        asked, saved = getattr(config, section), getattr(first, section)
        known = name in type(asked).model_fields and name in type(saved).model_fields  # of the same task
        if known and getattr(asked, name) == open_value:
            config = config.replace(section, **{name: getattr(saved, name)})
    return config


def run_dir_problems(config: RunConfig) -> list[Problem]:
    """Return why the run directory cannot be used with a configuration that has no open values."""
    problems = _resume_mode_problems(config.run_dir, config.checkpoint.resume)
    saved, saved_problems = load_saved_config(config)
    if saved_problems:
        file, found = RunDir(config.run_dir).config, "; ".join(map(str, saved_problems))
        return [*problems, Problem(str(file), found, "the configuration of a run")]
    return problems + (resume_problems(saved, config) if saved is not None else [])


def load_saved_config(config: RunConfig) -> tuple[RunConfig | None, list[Problem]]:
    """Return the configuration of the run that would continue, and its problems; (None, []) if there is none."""
    file = RunDir(config.run_dir).config
    if not file.exists() or config.checkpoint.resume == "never":
        return None, []
    return load_config(file, [], {**MODEL_CONFIGS, config.task: type(config.model)})


def resume_problems(saved: RunConfig, requested: RunConfig) -> list[Problem]:
    """Return the fixed keys whose requested values differ from the saved ones; many are one problem.

    Args:
        saved: the configuration of the run. Keys unknown to the version that wrote it have their current defaults.
        requested: the configuration that is to continue the run.
    """
    names = FIXED_KEYS + (FIXED_KEYS_IF_WINDOWED if requested.data.order == "windowed" else ())
    if saved.task != requested.task:
        names = tuple(name for name in names if name != "model")  # the models of two tasks have different keys
    before, now = (_list_values(config.model_dump(mode="json"), names) for config in (saved, requested))
    changed = [key for key in sorted(before.keys() | now.keys()) if before.get(key) != now.get(key)]
    if len(changed) > MANY_KEYS:
        found = f"{requested.run_dir} has other values of keys that cannot change: {list_examples(changed)}"
        expected = f"choose a new --run.name, or continue it with --config {RunDir(requested.run_dir).config}"
        return [Contradiction("run.name", found, expected)]
    return [
        _refuse_change(
            key, before.get(key), now.get(key), is_given=_is_given(requested, key), file=requested.find_file(key)
        )
        for key in changed
    ]


def _refuse_change(key: str, before: Any, now: Any, *, is_given: bool, file: str | None) -> Contradiction:
    """Return the problem of a fixed key whose value differs from that of the run.

    Args:
        is_given: a flag or the configuration file sets the key; otherwise it has its default.
        file: the configuration file, if it sets the key.
    """
    keep = (
        "choose a new --run.name" if key == "task" else f"add --{key} {show_value(before)}, or choose a new --run.name"
    )
    kept = f"this run uses {key} {show_value(before)}, which cannot change"
    if file is not None:
        return Contradiction(key, f"{kept}; the configuration {file} gives {show_value(now)}", keep)
    if is_given:
        return Contradiction(key, f"{kept}; you gave {show_value(now)}", "remove it, or choose a new --run.name")
    found = f"{kept}; without the key it would be {show_value(now)}"
    return Contradiction(key, found, keep)


def _is_given(config: RunConfig, key: str) -> bool:
    section, _, name = key.rpartition(".")
    return name in (getattr(config, section).model_fields_set if section else config.model_fields_set)


def _resume_mode_problems(path: Path, resume: str) -> list[Problem]:
    """Return why checkpoint.resume does not allow the run directory.

    A run that was started from the weights of a path continues if it is started again with the same path, as a
    requeued job does.
    """
    used = RunDir(path).config.exists()
    if resume != "auto" and used and (resume == "never" or not _started_from(path, resume)):
        expected = "an unused directory (another run.name), or checkpoint.resume auto"
        return [Problem("checkpoint.resume", f"{resume} with {path}, which contains a run", expected)]
    return [] if used else write_access_problems("run.dir", path, folder=True)


def _started_from(path: Path, weights: str) -> bool:
    try:
        saved = _look_up(read_run_config(path), "checkpoint.resume")
    except ConfigError:
        return False
    return saved not in {None, "auto", "never"} and Path(saved).resolve() == Path(weights).resolve()


def _look_up(values: dict[str, Any], name: str) -> Any:
    found: Any = values
    for part in name.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _list_values(values: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Return section.key -> value of keys and of all keys of sections."""
    found: dict[str, Any] = {}
    for name in names:
        value = _look_up(values, name)
        found |= {f"{name}.{key}": inner for key, inner in value.items()} if isinstance(value, dict) else {name: value}
    return found
