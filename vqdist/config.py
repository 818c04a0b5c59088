"""One run's configuration: defaults, a YAML file and flags merged into one dict and validated once.

Every key is a field of a frozen model below; its description, unit and default are what `--help` and the
README print. Nothing here imports torch, so that `--help` answers at once.
"""

import difflib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from vqdist.errors import ConfigError, Problem

CONFIGS = Path(__file__).parent / "configs"
# One part of a path: neither . nor .., which would be another folder.
_NAME = r"^\.*[\w-][\w.-]*$"


def _no_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a boolean is not a number")
    return value


def _true_or_false(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    if value in ("true", "false"):
        return value == "true"
    raise ValueError("true or false")


def _whole_number(value: Any) -> Any:
    return int(value) if isinstance(value, str) and value.isdecimal() else value


Bool = Annotated[bool, BeforeValidator(_true_or_false)]
Int = Annotated[int, BeforeValidator(_no_boolean)]
Real = Annotated[float, BeforeValidator(_no_boolean)]


def key(default: Any, help: str, *, unit: str = "", **limits: Any) -> Any:
    """Declare a configuration key: its default, what it is for, its unit and its limits."""
    return Field(default, description=help, json_schema_extra={"unit": unit} if unit else None, **limits)


class Section(BaseModel):
    """A group of keys. Frozen; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)


class RunSection(Section):
    """Who the run is and where it lives."""

    name: str | None = key(None, "name of the run; null: the stem of the config file, or demo", pattern=_NAME)
    dir: str = key("runs", "folder of all runs; this one's is {dir}/{name}", min_length=1)
    seed: Int = key(0, "seed of every draw of the run", ge=0)
    device: Literal["auto", "cpu", "cuda", "mps"] = key("auto", "auto: cuda, else mps, else cpu")
    deterministic: Bool = key(False, "on CUDA: only kernels that give the same bits every time")
    timeout_s: Real = key(1800.0, "a rank or loader worker that is silent for so long is an error", unit="s", gt=0)


class DataSection(Section):
    """Where the samples come from and how they are dealt out."""

    path: str | None = key(None, "data set: folder or address; null: the demo's, made under run.dir", min_length=1)
    global_batch_size: Int = key(16, "samples per step over all ranks", unit="samples", ge=1)
    micro_batch_size: Int | None = key(
        None, "most samples of a rank in one forward; null: the rank's whole share", unit="samples", ge=1
    )
    num_workers: Int = key(2, "loader processes per rank; 0: load in the loop", ge=0)
    order: Literal["windowed", "full"] = key("windowed", "how an epoch is permuted: inside shard windows, or fully")
    window_shards: Int = key(8, "shards that the windowed order mixes at a time", unit="shards", ge=1)
    cache: Literal["none", "memory"] = key("none", "memory: decoded samples shared by ranks and workers of a node")
    cache_dir: str | None = key(
        None, "folder for fetched shards and indexes; null: the user's cache folder", min_length=1
    )
    cache_gib: Real = key(
        16.0,
        "bound on fetched shards in cache_dir: two windows at least, all of train for order full",
        unit="GiB",
        gt=0,
    )
    on_error: Literal["raise", "skip"] = key("raise", "a damaged sample: end the run, or skip and count it")
    allow_changed: Bool = key(False, "go on although the data set changed since the checkpoint")
    ledger: Bool = key(False, "write the keys that each rank trained on, step by step, into ledger/")


class VQVAESection(Section):
    """The VQ-VAE (van den Oord et al. 2017)."""

    hidden: Int = key(128, "channels of encoder and decoder", ge=2)
    residual_hidden: Int = key(32, "channels inside a residual block", ge=1)
    residual_layers: Int = key(2, "residual blocks in encoder and in decoder", ge=0)
    downsample: Annotated[Literal[4, 8, 16], BeforeValidator(_whole_number)] = key(8, "image side over code map side")
    code_dim: Int = key(64, "size of a code vector", ge=1)
    num_codes: Int = key(512, "vectors in the codebook", ge=2)
    commitment_weight: Real = key(0.25, "weight of the commitment loss", ge=0)
    codebook: Literal["ema", "grad"] = key("ema", "how the codebook learns: moving averages, or its own loss")
    ema_decay: Real = key(0.99, "decay of the codebook's moving averages", gt=0, lt=1)
    restart: Bool = key(True, "give codes that nothing uses a new start")
    restart_every: Int = key(20, "look for unused codes every so many steps", unit="steps", ge=1)
    restart_threshold: Real = key(0.02, "a code used less than this share of the mean use restarts", ge=0)
    l1_weight: Real = key(0.0, "weight of the mean absolute error in the loss", ge=0)
    ssim_weight: Real = key(0.0, "weight of 1 - SSIM in the loss", ge=0)


class PixelCNNSection(Section):
    """The gated PixelCNN (van den Oord et al. 2016) over a VQ-VAE's codes; K, h and w come with the codes."""

    hidden: Int = key(64, "channels of both stacks", ge=1)
    layers: Int = key(15, "masked gated layers", ge=1)
    kernel: Int = key(5, "width of the kernels; odd", ge=3)
    dropout: Real = key(0.0, "share of activations dropped in training", ge=0, lt=1)
    condition: Literal["none", "label", "slice", "label+slice"] = key("none", "what the prior is told of a map")


class OptimSection(Section):
    """Adam (AdamW where weight_decay is above 0) and its schedule."""

    lr: Real = key(1e-3, "learning rate at its peak", gt=0)
    schedule: Literal["constant", "cosine", "linear"] = key("cosine", "course of the learning rate after the warm-up")
    warmup_steps: Int = key(0, "steps of linear warm-up", unit="steps", ge=0)
    decay_steps: Int | None = key(
        None, "step at which the schedule ends; null: train.max_steps of the first start", unit="steps", ge=1
    )
    weight_decay: Real = key(0.0, "decoupled weight decay", ge=0)
    grad_clip: Real | None = key(1.0, "greatest norm of the gradient; null: no clipping", gt=0)
    weight_ema: Real | None = key(None, "decay of the moving average of the weights; null: none", gt=0, lt=1)


class TrainSection(Section):
    """How long, in which precision, and what is reported when."""

    max_steps: Int = key(400, "steps of the whole run", unit="steps", ge=1)
    stop_at_step: Int | None = key(None, "checkpoint at this step and exit with 75", unit="steps", ge=1)
    precision: Literal["fp32", "bf16", "fp16"] = key("fp32", "of the forward and backward pass")
    compile: Bool = key(False, "compile the model with torch.compile")
    log_every: Int = key(20, "steps between train lines", unit="steps", ge=1)
    eval_every: Int = key(100, "steps between validate lines; the last step always evaluates", unit="steps", ge=1)
    preview_every: Int | None = key(200, "steps between preview pictures; null: none", unit="steps", ge=1)
    patience: Int | None = key(None, "evaluations without a better validate loss before the run ends; null: none", ge=1)
    max_bad_steps: Int = key(10, "non-finite steps in a row before going back to the last checkpoint", ge=1)


class CheckpointSection(Section):
    """When the run can be taken up again, and from where."""

    every_steps: Int | None = key(500, "steps between checkpoints; null: by time alone", unit="steps", ge=1)
    every_minutes: Real | None = key(15.0, "minutes between checkpoints; null: by steps alone", unit="min", gt=0)
    keep: Int = key(3, "checkpoints kept", ge=2)
    resume: str = key(
        "auto", "auto: go on where the run stands; never; or a checkpoint whose weights start a new run", min_length=1
    )
    on_error: Literal["raise", "continue"] = key("raise", "a checkpoint that cannot be written: end the run, or go on")


class TrackingSection(Section):
    """Weights & Biases, a view of the run."""

    mode: Literal["auto", "online", "offline", "disabled"] = key("auto", "auto: online if key and server are there")
    project: str = key("vqdist", "W&B project")
    entity: str | None = key(None, "W&B team or user; null: the key's own")
    group: str | None = key(None, "W&B group, for example one per pipeline")
    tags: tuple[str, ...] = key((), "W&B tags")


class RunConfig(Section):
    """Everything that one run needs to know. `task` decides which keys `model` has."""

    task: Literal["vqvae", "pixelcnn"] = key("vqvae", "which of the two stages to train")
    run: RunSection = RunSection()
    data: DataSection = DataSection()
    model: VQVAESection | PixelCNNSection
    optim: OptimSection = OptimSection()
    train: TrainSection = TrainSection()
    checkpoint: CheckpointSection = CheckpointSection()
    tracking: TrackingSection = TrackingSection()

    def replace(self, section: str, **keys: Any) -> Self:
        """Return a configuration that differs in some keys of one section."""
        return self.model_copy(update={section: getattr(self, section).model_copy(update=keys)})

    @property
    def run_dir(self) -> Path:
        """The run's own directory, {run.dir}/{run.name}."""
        assert self.run.name is not None
        return Path(self.run.dir) / self.run.name


class VQVAERun(RunConfig):
    task: Literal["vqvae"] = key("vqvae", "which of the two stages to train")
    model: VQVAESection = VQVAESection()


class PixelCNNRun(RunConfig):
    task: Literal["pixelcnn"] = "pixelcnn"
    model: PixelCNNSection = PixelCNNSection()


_RUN: dict[str, TypeAdapter[Any]] = {"vqvae": TypeAdapter(VQVAERun), "pixelcnn": TypeAdapter(PixelCNNRun)}
RUN_TYPES: dict[str, type[RunConfig]] = {"vqvae": VQVAERun, "pixelcnn": PixelCNNRun}


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


def cross_problems(config: RunConfig) -> list[Problem]:
    """Return what is wrong between keys that are each right by themselves."""
    problems = []
    if isinstance(config.model, PixelCNNSection) and config.model.kernel % 2 == 0:
        problems.append(Problem("model.kernel", str(config.model.kernel), "an odd number"))
    if config.task == "pixelcnn" and config.data.path is None:
        problems.append(Problem("data.path", "null", "a data set of codes, made by vqdist.encode"))
    if config.checkpoint.every_steps is None and config.checkpoint.every_minutes is None:
        problems.append(
            Problem("checkpoint.every_steps", "null beside checkpoint.every_minutes null", "one of the two")
        )
    return problems


def dump_yaml(config: RunConfig) -> str:
    """Return the resolved configuration as YAML that `load_config` reads back to the same."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


Key = tuple[str, str, str, Any, str]  # name, type, unit, default, help


def list_keys(task: str) -> list[Key]:
    """Return (key, type, unit, default, help) of every key of a task, in order."""
    rows = []
    for section, field in RUN_TYPES[task].model_fields.items():
        if section == "task":
            rows.append(("task", "vqvae|pixelcnn", "", task, field.description or ""))
            continue
        for name, inner in type(field.default).model_fields.items():
            extra = inner.json_schema_extra
            unit = str(extra.get("unit", "")) if isinstance(extra, dict) else ""
            kind = _type_name(inner.annotation)
            rows.append((f"{section}.{name}", kind, unit, inner.default, inner.description or ""))
    return rows


def _type_name(annotation: Any) -> str:
    args = getattr(annotation, "__args__", None)
    if args and getattr(annotation, "__origin__", None) is Literal:
        return "|".join(str(value) for value in args)
    if getattr(annotation, "__origin__", None) is tuple:
        return "list"
    if args and hasattr(annotation, "__metadata__"):
        return _type_name(args[0])
    if args:
        return "|".join("null" if part is type(None) else _type_name(part) for part in args)
    return {"str": "text", "bool": "true|false"}.get(annotation.__name__, annotation.__name__)


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
