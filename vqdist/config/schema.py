"""The configuration of one run: its sections and keys. `vqdist.config.loading` fills it from a file and flags."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import PrivateAttr, create_model

from vqdist.config.augmentation import AUTO_CROP, CropKey, MirrorKey
from vqdist.config.model_config import MODEL_CONFIGS, ModelConfig
from vqdist.config.section import Bool, Int, Key, PathText, Real, Section, key, list_fields
from vqdist.foundation.errors import Problem

CONFIGS = Path(__file__).parents[1] / "configs"
# One part of a path: neither . nor .., which would be another folder.
_NAME = r"^\.*[\w-][\w.-]*$"


class RunSection(Section):
    """Name, folder, seed and device of the run."""

    name: str | None = key(None, "name of the run; null: the stem of the config file, or demo", pattern=_NAME)
    dir: PathText = key("runs", "folder of all runs; the run directory is {dir}/{name}", min_length=1)
    seed: Int = key(0, "seed of every random draw", ge=0)
    device: Literal["auto", "cpu", "cuda", "mps"] = key("auto", "auto: cuda, else mps, else cpu")
    deterministic: Bool = key(
        False, "on CUDA: use only deterministic kernels; without, a resumed run may have other bits"
    )
    timeout_s: Real = key(
        1800.0, "time after which a rank or loader worker that does not respond is an error", unit="s", gt=0
    )


class DataSection(Section):
    """The dataset and how its samples are loaded."""

    path: PathText | None = key(
        None,
        "dataset: folder or URL; or third-party shards: folder, tar, or pattern or URL of tars such as "
        "s3://bucket/train-{000..007}.tar; null: synthetic slices, made under run.dir",
        min_length=1,
    )
    image_key: str | None = key(
        None,
        "third-party shards: extension of the pictures where a sample has several, such as jpg or image.png; null: "
        "each sample has one picture",
        min_length=1,
    )
    global_batch_size: Int = key(16, "samples per step over all ranks", unit="samples", ge=1)
    micro_batch_size: Int | None = key(
        None, "largest number of samples per rank and forward pass; null: the rank's whole share", unit="samples", ge=1
    )
    num_workers: Int = key(2, "loader processes per rank; 0: load in the main process", ge=0)
    order: Literal["windowed", "full"] = key(
        "windowed", "permutation of an epoch: inside windows of shards, or over all samples"
    )
    window_shards: Int = key(8, "shards per window of the windowed order", unit="shards", ge=1)
    mirror: MirrorKey = key(
        "none",
        "mirror a random half of the images at each step; up-down reverses the order of the rows; "
        "auto: up-down for brain slices, where it exchanges left and right, none for other pictures",
    )
    crop: CropKey = key(
        None,
        f"train on a random square of each image; null: the whole image; auto: {AUTO_CROP}, null for smaller images",
        unit="px",
    )
    cache: Literal["none", "memory"] = key(
        "none", "memory: share decoded samples between the ranks and workers of a node"
    )
    cache_dir: PathText | None = key(
        None, "folder for downloaded shards and for indexes; null: the user's cache folder", min_length=1
    )
    cache_gib: Real = key(
        16.0,
        "limit of downloaded shards in cache_dir; at least two windows, or all of train with order full",
        unit="GiB",
        gt=0,
    )
    on_error: Literal["raise", "skip"] = key(
        "raise",
        "a damaged sample, or one of third-party shards that cannot be used, ends the run or is skipped and counted",
    )
    allow_changed: Bool = key(False, "resume although the dataset changed since the checkpoint")
    ledger: Bool = key(False, "write the sample keys of every step and rank to ledger/")


class OptimSection(Section):
    """The optimizer and the schedule of its learning rate."""

    name: Literal["adam", "muon"] = key(
        "adam", "muon: Muon for the weights between the first and the last layer, AdamW for the others"
    )
    lr: Real = key(1e-3, "peak learning rate", gt=0)
    schedule: Literal["constant", "cosine", "linear"] = key("cosine", "learning rate after the warm-up")
    warmup_steps: Int = key(0, "linear warm-up", unit="steps", ge=0)
    decay_steps: Int | None = key(
        None, "step at which the schedule ends; null: train.max_steps of the first attempt", unit="steps", ge=1
    )
    weight_decay: Real = key(0.0, "decoupled weight decay of matrices and kernels, codebook excluded", ge=0)
    grad_clip: Real | None = key(1.0, "clip the gradient to this norm; null: no clipping", gt=0)
    weight_ema: Real | None = key(None, "decay of the moving average of the weights; null: no average", gt=0, lt=1)


class TrainSection(Section):
    """Length, precision and reports of the run."""

    max_steps: Int = key(400, "steps of the whole run, over all attempts", unit="steps", ge=1)
    stop_at_step: Int | None = key(None, "write a checkpoint at this step and exit with 75", unit="steps", ge=1)
    precision: Literal["fp32", "bf16", "fp16", "auto"] = key(
        "fp32",
        "of the forward and backward pass; auto: bf16 if the device has instructions for it, else fp32",
    )
    compile: Bool = key(False, "compile the model with torch.compile")
    log_every: Int = key(20, "steps between train lines in metrics.jsonl", unit="steps", ge=1)
    eval_every: Int = key(
        100, "steps between evaluations on validate; the last step always evaluates", unit="steps", ge=1
    )
    preview_every: Int | None = key(200, "steps between preview pictures; null: no previews", unit="steps", ge=1)
    patience: Int | None = key(
        None,
        "evaluations without a better validate loss (of a VQ-VAE, without its codebook loss) after which the run ends; "
        "null: no limit",
        ge=1,
    )
    max_bad_steps: Int = key(
        10, "consecutive non-finite steps after which the run returns to the last checkpoint", ge=1
    )

    @property
    def last_step(self) -> int:
        """The step at which an attempt ends: the last one of the run, or an earlier stop."""
        return min(self.max_steps, self.stop_at_step or self.max_steps)


class CheckpointSection(Section):
    """When checkpoints are written, and what a run resumes from."""

    every_steps: Int | None = key(500, "steps between checkpoints; null: only every_minutes", unit="steps", ge=1)
    every_minutes: Real | None = key(15.0, "minutes between checkpoints; null: only every_steps", unit="min", gt=0)
    keep: Int = key(3, "checkpoints kept", ge=2)
    resume: PathText = key(
        "auto", "auto: resume the run; never; or a path, whose weights initialise a new run", min_length=1
    )
    on_error: Literal["raise", "continue"] = key(
        "raise", "a checkpoint that cannot be written ends the run, or the run continues"
    )


class TrackingSection(Section):
    """Weights & Biases."""

    mode: Literal["auto", "online", "offline", "disabled"] = key(
        "auto", "auto: online if there are an API key and a reachable server"
    )
    project: str = key("vqdist", "W&B project; WANDB_PROJECT where the key is not given")
    name: str | None = key(None, "name of the run in W&B; null: run.name, or WANDB_NAME where that is not given")
    entity: str | None = key(None, "W&B team or user; null: the default of the API key")
    group: str | None = key(None, "W&B group, for example one per pipeline")
    tags: tuple[str, ...] = key((), "W&B tags")
    images: bool = key(
        True, "W&B receives previews, reconstructions and samples; false: no pictures, only numbers and artifacts"
    )


@dataclass(frozen=True)
class ConfigFile:
    """The file that a configuration was loaded from, for messages; configurations of any two files compare equal.

    Attributes:
        path: as the user gave it; None for no file.
        keys: section.key of the values that the file gives and no flag overrides.
    """

    path: str | None = field(default=None, compare=False)
    keys: frozenset[str] = field(default=frozenset(), compare=False)


class RunConfig(Section):
    """The whole configuration of one run; `run_config_type` narrows `task` and `model` to those of a task."""

    task: str
    run: RunSection = RunSection()
    data: DataSection = DataSection()
    model: ModelConfig
    optim: OptimSection = OptimSection()
    train: TrainSection = TrainSection()
    checkpoint: CheckpointSection = CheckpointSection()
    tracking: TrackingSection = TrackingSection()
    _file: ConfigFile = PrivateAttr(default=ConfigFile())

    def with_file(self, file: ConfigFile) -> Self:
        """Return the configuration with the file that it was loaded from."""
        loaded = self.model_copy()
        loaded._file = file
        return loaded

    def find_file(self, key: str) -> str | None:
        """Return the configuration file that gives the value of section.key; None for a flag or the default."""
        return self._file.path if key in self._file.keys else None

    def replace(self, section: str, **keys: Any) -> Self:
        """Return a configuration that differs in some keys of one section."""
        return self.model_copy(update={section: getattr(self, section).model_copy(update=keys)})

    @property
    def run_dir(self) -> Path:
        """The run directory, {run.dir}/{run.name}."""
        assert self.run.name is not None
        return Path(self.run.dir) / self.run.name

    def find_conflicts(self) -> list[Problem]:
        """Return the problems between keys that are each valid alone."""
        problems = self.model.find_conflicts() + self.model.find_run_conflicts(self)
        if self.model.data_kind == "codes":
            if self.data.path is None:
                problems.append(Problem("data.path", "null", "a dataset of codes, made by vqdist encode"))
            expected = "no augmentation of codes: vqdist encode --views mirrors and shifts slices for a prior"
            changed = {"data.mirror": self.data.mirror != "none", "data.crop": self.data.crop is not None}
            problems += [Problem(name, "set for maps of codes", expected) for name, is_set in changed.items() if is_set]
        if self.checkpoint.every_steps is None and self.checkpoint.every_minutes is None:
            found = "null beside checkpoint.every_minutes null"
            problems.append(Problem("checkpoint.every_steps", found, "a number for one of the two"))
        return problems


@cache
def run_config_type(task: str, model: type[ModelConfig]) -> type[RunConfig]:
    """Return the configuration class of a task whose `model` section has the keys of `model`."""
    fields: dict[str, Any] = {"task": (Literal[task], task), "model": (model, model())}
    return create_model(f"{model.__name__}Run", __base__=RunConfig, **fields)


def list_keys(task: str, models: Mapping[str, type[ModelConfig]] = MODEL_CONFIGS) -> list[Key]:
    """Return every key of a task as section.key, in order."""
    keys = [Key("task", "|".join(models), "", task, "which stage to train")]
    for section, found in run_config_type(task, models[task]).model_fields.items():
        if section != "task":
            keys += [replace(inner, name=f"{section}.{inner.name}") for inner in list_fields(type(found.default))]
    return keys


def dump_yaml(config: RunConfig) -> str:
    """Return the resolved configuration as YAML that `load_config` reads back to the same value."""
    return yaml.safe_dump(config.model_dump(mode="json", serialize_as_any=True), sort_keys=False)
