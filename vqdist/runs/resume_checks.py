"""Whether a configuration may start or continue the run in its run directory."""

from pathlib import Path
from typing import Any

from vqdist.config.loading import load_config
from vqdist.config.model_config import MODEL_CONFIGS
from vqdist.config.schema import RunConfig, run_config_type
from vqdist.foundation.atomic_files import write_access_problems
from vqdist.foundation.errors import ConfigError, Problem
from vqdist.runs.run_dir import RunDir, read_run_config, read_status

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
# Keys whose given value stands for "choose one". The value that the first attempt chose is kept by all later attempts.
OPEN_VALUES = {("optim", "decay_steps"): None, ("train", "precision"): "auto"}


def is_finished(config: RunConfig) -> bool:
    """Tell whether the run has nothing left to do: all steps are done, or it ended early and patience is still set."""
    status = read_status(config.run_dir)
    early = status.get("ended_early") and config.train.patience is not None
    return status.get("state") == "finished" and bool(early or status.get("step", 0) >= config.train.max_steps)


def keep_chosen_values(config: RunConfig) -> RunConfig:
    """Return the configuration with its open values replaced by those that the run's first attempt chose, if any."""
    saved = RunDir(config.run_dir).config
    first = load_config(saved, [])[0] if saved.exists() and config.checkpoint.resume != "never" else None
    if first is None:
        return config
    for (section, name), open_value in OPEN_VALUES.items():
        if getattr(getattr(config, section), name) == open_value:
            config = config.replace(section, **{name: getattr(getattr(first, section), name)})
    return config


def run_dir_problems(config: RunConfig) -> list[Problem]:
    """Return why the run directory cannot be used with a configuration that has no open values."""
    problems = _resume_mode_problems(config.run_dir, config.checkpoint.resume)
    file = RunDir(config.run_dir).config
    if not file.exists() or config.checkpoint.resume == "never":
        return problems
    saved, saved_problems = load_config(file, [])
    if saved_problems or saved is None:
        return [*problems, Problem(str(file), "; ".join(map(str, saved_problems)), "the configuration of a run")]
    return problems + resume_problems(config.run_dir, saved.model_dump(mode="json"), config.model_dump(mode="json"))


def resume_problems(path: Path, saved: dict[str, Any], requested: dict[str, Any]) -> list[Problem]:
    """Return the fixed keys whose requested values differ from the saved ones.

    Args:
        path: the run directory.
        saved: its configuration. Keys unknown to the version that wrote it have their current defaults.
        requested: the configuration that is to continue the run.
    """
    task = str(saved.get("task")) if saved.get("task") in MODEL_CONFIGS else "vqvae"
    defaults = run_config_type(task, MODEL_CONFIGS[task]).model_validate({}).model_dump(mode="json")
    saved = _merge(defaults, saved)
    names = FIXED_KEYS + (FIXED_KEYS_IF_WINDOWED if requested["data"]["order"] == "windowed" else ())
    problems = []
    for name in names:
        before, now = _flatten(name, _look_up(saved, name)), _flatten(name, _look_up(requested, name))
        for key in sorted(set(before) | set(now)):
            if before.get(key) != now.get(key):
                found = f"{before.get(key)!r} in {RunDir(path).config}"
                expected = f"{now.get(key)!r} as requested; keep the saved value or choose another run.name"
                problems.append(Problem(key, found, expected))
    return problems


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


def _merge(defaults: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """Return nested values, with defaults for the keys that they lack."""
    nested = {
        key: _merge(default, values[key])
        for key, default in defaults.items()
        if isinstance(default, dict) and isinstance(values.get(key), dict)
    }
    return defaults | values | nested


def _look_up(values: dict[str, Any], name: str) -> Any:
    found: Any = values
    for part in name.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _flatten(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {name: value}
    return {key: leaf for part, inner in value.items() for key, leaf in _flatten(f"{name}.{part}", inner).items()}
