"""A run's directory: the record of the run. Written by rank 0 of the newest start, and by nobody else."""

import json
import os
import socket
import time
import uuid
from pathlib import Path
from typing import Any

from vqdist.config.model_config import MODEL_CONFIGS
from vqdist.config.schema import RunConfig, run_config_type
from vqdist.config.loading import load_config
from vqdist.foundation.atomic_files import remove_partials, write_access_problems, write_atomic
from vqdist.foundation.errors import ConfigError, OwnershipError, Problem
from vqdist.foundation.json_lines import read_json_lines

# What decides the result of a run; every other key may change from one start to the next.
DECIDING = (
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
# What a configuration may leave open, and how it says so. The first start of a run settles it for all.
LEFT_OPEN = {("optim", "decay_steps"): None, ("train", "precision"): "auto"}
DECIDING_IN_WINDOWS = "data.window_shards"
OWNER_RETRIES_S = (0.1, 0.5, 1.0)


class RunDir:
    """The files of a run, and the token that says who may write them.

    Args:
        path: the run's directory, created if it is not there.
        token: the start's token, the same on all ranks.
    """

    def __init__(self, path: Path, token: str) -> None:
        self.path = path
        self.token = token

    @classmethod
    def claim(cls, path: Path) -> "RunDir":
        """Take the directory for this start: older processes find another token and write nothing more."""
        path.mkdir(parents=True, exist_ok=True)
        for folder in (path, path / "ledger"):
            remove_partials(folder)  # of a start that was killed while it wrote
        run_dir = cls(path, uuid.uuid4().hex)
        owner = {
            "token": run_dir.token,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "slurm_job": os.environ.get("SLURM_JOB_ID"),
            "slurm_restart": os.environ.get("SLURM_RESTART_COUNT"),
        }
        write_atomic(path / "owner.json", json.dumps(owner).encode())
        return run_dir

    def check_owner(self) -> None:
        """Raise OwnershipError if a newer start has taken the directory, or nothing tells who has."""
        if self._read_token() != self.token:
            raise OwnershipError(f"{self.path}: a newer start owns this run; this process writes nothing more")

    def _read_token(self) -> str:
        owner = self.path / "owner.json"
        pauses_s = iter(OWNER_RETRIES_S)  # a network file system may fail for a moment
        while True:
            try:
                return str(json.loads(owner.read_text())["token"])
            except (OSError, ValueError, KeyError, TypeError) as error:
                pause_s = next(pauses_s, None)
                if pause_s is None or isinstance(error, FileNotFoundError):
                    found = f"{owner} does not tell which start owns this run ({error!r})"
                    raise OwnershipError(f"{found}; this process writes nothing more") from error
                time.sleep(pause_s)

    def write_status(self, state: str, step: int, **facts: Any) -> None:
        """Write status.json: state is running, stopped, finished or failed."""
        self.check_owner()
        write_atomic(self.path / "status.json", json.dumps({"state": state, "step": step, **facts}).encode())

    def write_config(self, text: str) -> None:
        """Write the resolved configuration."""
        self.check_owner()
        write_atomic(self.path / "config.yaml", text.encode())

    def cut_records(self, step: int, *, eval_due: bool) -> None:
        """Cut metrics.jsonl and every ledger back to a step, so that they tell what the model has seen.

        Args:
            eval_due: the evaluation of that step is still to be made, so a line about it goes too.
        """
        self.check_owner()
        for path in [self.path / "metrics.jsonl", *sorted(self.path.glob("ledger/rank-*.jsonl"))]:
            if path.exists():
                lines = (
                    line
                    for line, record in read_json_lines(path)
                    if record["step"] < step + (not eval_due or record.get("split") != "validate")
                )
                write_atomic(path, b"".join(lines))


def read_status(path: Path) -> dict[str, Any]:
    """Return status.json of a run directory, {} where there is none."""
    try:
        status = json.loads((path / "status.json").read_text())
    except (OSError, ValueError):
        return {}
    return status if isinstance(status, dict) else {}


def is_over(config: RunConfig) -> bool:
    """Tell whether a run has finished: its last step is done, or patience ended it and still would."""
    status = read_status(config.run_dir)
    early = status.get("ended_early") and config.train.patience is not None
    return status.get("state") == "finished" and bool(early or status.get("step", 0) >= config.train.max_steps)


def follow_first_start(config: RunConfig) -> RunConfig:
    """Return a configuration with what it leaves open as the run's first start settled it, if there was one."""
    saved = config.run_dir / "config.yaml"
    first = load_config(saved, [])[0] if saved.exists() and config.checkpoint.resume != "never" else None
    if first is None:
        return config
    for (section, name), unsaid in LEFT_OPEN.items():
        if getattr(getattr(config, section), name) == unsaid:
            config = config.replace(section, **{name: getattr(getattr(first, section), name)})
    return config


def run_dir_problems(config: RunConfig) -> list[Problem]:
    """Return why the run directory does not take a configuration that leaves nothing open."""
    problems = claimable(config.run_dir, config.checkpoint.resume)
    path = config.run_dir / "config.yaml"
    if not path.exists() or config.checkpoint.resume == "never":
        return problems
    saved, damage = load_config(path, [])
    if damage or saved is None:
        return [*problems, Problem(str(path), "; ".join(map(str, damage)), "a run's configuration")]
    return problems + resume_problems(config.run_dir, saved.model_dump(mode="json"), config.model_dump(mode="json"))


def resume_problems(path: Path, saved: dict[str, Any], asked: dict[str, Any]) -> list[Problem]:
    """Return the keys that decide the result and differ between a run and what is asked of it now.

    A key that the run's version did not know yet had what is now its default.
    """
    task = saved.get("task") if saved.get("task") in MODEL_CONFIGS else "vqvae"
    defaults = run_config_type(str(task), MODEL_CONFIGS[str(task)]).model_validate({}).model_dump(mode="json")
    saved = _fill(saved, defaults)
    names = list(DECIDING)
    if asked["data"]["order"] == "windowed":
        names.append(DECIDING_IN_WINDOWS)
    problems = []
    for name in names:
        before, now = _flat(name, _lookup(saved, name)), _flat(name, _lookup(asked, name))
        for leaf in sorted(set(before) | set(now)):
            found, wanted = before.get(leaf), now.get(leaf)
            if found != wanted:
                problems.append(
                    Problem(
                        leaf,
                        f"{found!r} in {path / 'config.yaml'}",
                        f"the same; asked is {wanted!r} (or another run.name)",
                    )
                )
    return problems


def claimable(path: Path, resume: str) -> list[Problem]:
    """Return why a run directory cannot be used in this way of resuming.

    A run that began from the weights of a path goes on when it is started again with the same path, as a
    requeued job is.
    """
    used = (path / "config.yaml").exists()
    if resume != "auto" and used and (resume == "never" or not _began_from(path, resume)):
        expected = "an unused directory: another run.name, or checkpoint.resume auto"
        return [Problem("checkpoint.resume", f"{resume} on {path}, which holds a run", expected)]
    return [] if used else write_access_problems("run.dir", path, folder=True)


def _began_from(path: Path, weights: str) -> bool:
    try:
        before = _lookup(read_config(path), "checkpoint.resume")
    except ConfigError:
        return False
    return before not in {None, "auto", "never"} and Path(before).resolve() == Path(weights).resolve()


def read_config(path: Path) -> dict[str, Any]:
    """Return the resolved configuration of a run directory."""
    import yaml

    try:
        values = yaml.safe_load((path / "config.yaml").read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError.of(str(path / "config.yaml"), error, "the configuration of a run") from error
    if not isinstance(values, dict):
        raise ConfigError.of(str(path / "config.yaml"), type(values).__name__, "the configuration of a run")
    return values


def _fill(values: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """Return nested values with the defaults where they have none."""
    filled = {
        key: _fill(values[key], default)
        for key, default in defaults.items()
        if isinstance(default, dict) and isinstance(values.get(key), dict)
    }
    return defaults | values | filled


def _lookup(values: dict[str, Any], name: str) -> Any:
    found: Any = values
    for part in name.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _flat(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {name: value}
    return {leaf: found for key, inner in value.items() for leaf, found in _flat(f"{name}.{key}", inner).items()}
