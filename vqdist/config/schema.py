"""One run's configuration: its sections and keys. `vqdist.config.loading` fills it from a file and flags.

Every key is a field of a frozen model below; its description, unit and default are what `--help` and the
README print. Nothing here imports torch, so that `--help` answers at once.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from vqdist.foundation.errors import Problem

CONFIGS = Path(__file__).parents[1] / "configs"
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


def _which_mirror(value: Any) -> Any:
    """Take what this key was before there was a choice: false, or true for columns."""
    return {"false": "none", "true": "columns"}.get(str(value).lower(), value)


def _whole_number(value: Any) -> Any:
    return int(value) if isinstance(value, str) and value.isdecimal() else value


Mirror = Literal["none", "rows", "columns"]
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
    mirror: Annotated[Mirror, BeforeValidator(_which_mirror)] = key(
        "none", "train on half of the images mirrored, others at each step; rows: left and right of an OASIS slice"
    )
    crop: Int | None = key(None, "train on a square of each image, elsewhere in each epoch; null: all", unit="px", ge=1)
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
    fine_layers: Int = key(0, "residual blocks at each resolution finer than the code map", ge=0)
    downsample: Annotated[Literal[4, 8, 16], BeforeValidator(_whole_number)] = key(8, "image side over code map side")
    patch: Annotated[Literal[1, 2, 4], BeforeValidator(_whole_number)] = key(
        1,
        "side of the pixel squares folded into channels at first; the widths then halve per finer resolution",
        unit="px",
    )
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
    symmetry: Literal["none", "rows"] = key(
        "none", "rows: the lower half of a map resembles the upper one mirrored, as in OASIS slices"
    )


class OptimSection(Section):
    """Adam (AdamW where weight_decay is above 0) or Muon, and the schedule of its learning rate."""

    name: Literal["adam", "muon"] = key(
        "adam", "muon: orthogonal steps for the weights between the first and the last layer, Adam for the others"
    )
    lr: Real = key(1e-3, "learning rate at its peak", gt=0)
    schedule: Literal["constant", "cosine", "linear"] = key("cosine", "course of the learning rate after the warm-up")
    warmup_steps: Int = key(0, "steps of linear warm-up", unit="steps", ge=0)
    decay_steps: Int | None = key(
        None, "step at which the schedule ends; null: train.max_steps of the first start", unit="steps", ge=1
    )
    weight_decay: Real = key(0.0, "decoupled weight decay, of matrices and kernels but the codebook", ge=0)
    grad_clip: Real | None = key(1.0, "greatest norm of the gradient; null: no clipping", gt=0)
    weight_ema: Real | None = key(None, "decay of the moving average of the weights; null: none", gt=0, lt=1)


class TrainSection(Section):
    """How long, in which precision, and what is reported when."""

    max_steps: Int = key(400, "steps of the whole run", unit="steps", ge=1)
    stop_at_step: Int | None = key(None, "checkpoint at this step and exit with 75", unit="steps", ge=1)
    precision: Literal["fp32", "bf16", "fp16", "auto"] = key(
        "fp32",
        "of the forward and backward pass; auto: bf16 where the device of the first start is made for it, else fp32",
    )
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


RUN_TYPES: dict[str, type[RunConfig]] = {"vqvae": VQVAERun, "pixelcnn": PixelCNNRun}


def cross_problems(config: RunConfig) -> list[Problem]:
    """Return what is wrong between keys that are each right by themselves."""
    problems = []
    if isinstance(config.model, PixelCNNSection) and config.model.kernel % 2 == 0:
        problems.append(Problem("model.kernel", str(config.model.kernel), "an odd number"))
    if config.task == "pixelcnn" and config.data.path is None:
        problems.append(Problem("data.path", "null", "a data set of codes, made by vqdist.encode"))
    problems += _augmentation_problems(config)
    if config.checkpoint.every_steps is None and config.checkpoint.every_minutes is None:
        problems.append(
            Problem("checkpoint.every_steps", "null beside checkpoint.every_minutes null", "one of the two")
        )
    return problems


def _augmentation_problems(config: RunConfig) -> list[Problem]:
    mirror, crop = config.data.mirror, config.data.crop
    if isinstance(config.model, PixelCNNSection):
        expected = "of images alone: vqdist.encode --views mirrors and moves slices for a prior"
        asked = {"data.mirror": mirror != "none", "data.crop": crop is not None}
        return [Problem(name, "asked for maps of codes", expected) for name, is_asked in asked.items() if is_asked]
    if crop is not None and crop % config.model.downsample:
        expected = f"a multiple of model.downsample, {config.model.downsample}"
        return [Problem("data.crop", str(crop), expected)]
    return []


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
