"""From a configuration to a run that can start: every check first, then the parts."""

import os
import warnings
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from torch import nn

from vqdist.config import RunConfig, VQVAESection, load_config
from vqdist.data.loader import NO_NUMBER, Batch
from vqdist.data.locate import locate_data_set
from vqdist.data.manifest import Manifest, load_manifest
from vqdist.data.places import resolve_cache_dir
from vqdist.data.remote import plan_room
from vqdist.data.transfer import is_address
from vqdist.entry import say
from vqdist.errors import CheckpointError, DataError, Problem, UserError
from vqdist.models.artifact import find_model, fingerprint, load_model
from vqdist.training.checkpoint import load_checkpoint, read_newest_state
from vqdist.training.optim import WeightEMA, build_optimizer
from vqdist.training.ranks import Ranks, device_problems, launch_problems, wants_cpu
from vqdist.training.run_dir import claimable, resume_problems
from vqdist.training.state import Progress, Session, load_weights
from vqdist.training.step import settle
from vqdist.training.tasks import Task, get_task
from vqdist.world import read_world

COMPANION = "vqvae"


def find_problems(config: RunConfig) -> list[Problem]:
    """Return all that is wrong with a run before anything of it is allocated: launch, data, run directory."""
    problems = launch_problems(config.run.device) + device_problems(config.run.device)
    world = read_world()
    if config.data.global_batch_size < world:
        found = f"{config.data.global_batch_size} samples for {world} ranks"
        problems.append(Problem("data.global_batch_size", found, "at least one sample per rank"))
    problems += precision_problems(config.train.precision, config.run.device)
    problems += claimable(config.run_dir, config.checkpoint.resume)
    if (config.run_dir / "config.yaml").exists() and config.checkpoint.resume != "never":
        problems += _resume_problems(config)
    if config.data.path is not None:
        problems += _data_problems(config, config.data.path)
    return problems


def precision_problems(precision: str, device: str) -> list[Problem]:
    """Return what is wrong with a precision on the device that a run would take: fp16 needs CUDA and its scaler."""
    on_cuda = torch.cuda.is_available() and not wants_cpu(device)
    on_mps = torch.backends.mps.is_available() and not wants_cpu(device) and not on_cuda
    if precision == "fp16" and not on_cuda:
        return [Problem("train.precision", "fp16 without a CUDA device", "fp32 or bf16")]
    if precision == "bf16" and on_mps and not torch.backends.mps.is_macos_or_newer(14, 0):
        return [Problem("train.precision", "bf16 on mps before macOS 14", "fp32")]
    return []


def resolve(config: RunConfig) -> RunConfig:
    """Return the configuration with nothing left open: decay_steps is that of the first start."""
    if config.optim.decay_steps is not None:
        return config
    steps = config.train.max_steps
    saved = config.run_dir / "config.yaml"
    if saved.exists() and config.checkpoint.resume != "never":
        first, _ = load_config(saved, [])
        if first is not None and first.optim.decay_steps is not None:
            steps = first.optim.decay_steps
    return config.replace("optim", decay_steps=steps)


def _resume_problems(config: RunConfig) -> list[Problem]:
    saved, problems = load_config(config.run_dir / "config.yaml", [])
    if problems or saved is None:
        return [Problem(str(config.run_dir / "config.yaml"), "; ".join(map(str, problems)), "a run's configuration")]
    return resume_problems(config.run_dir, saved.model_dump(mode="json"), config.model_dump(mode="json"))


def _data_problems(config: RunConfig, path: str) -> list[Problem]:
    task = get_task(config.task)
    try:
        folder = locate_data_set(path, resolve_cache_dir(config.data.cache_dir))
        manifest = load_manifest(folder)
        if manifest.kind != task.data_kind:
            made_by = "vqdist.shard" if task.data_kind == "images" else "vqdist.encode"
            expected = f"{task.data_kind} for task {config.task}: made by {made_by}"
            return [Problem("data.path", f"a data set of {manifest.kind} in {path}", expected)]
        problems = task.problems(config, manifest) + _changed_data_problems(config, manifest)
        samples = manifest.splits["train"].samples if "train" in manifest.splits else 0
        if samples < config.data.global_batch_size:
            found = f"{samples} samples of train in {path}"
            expected = f"at least one global batch ({config.data.global_batch_size})"
            problems.append(Problem("data.path", found, expected))
        if manifest.kind == "codes":
            problems += _companion_problems(folder, manifest)
        if is_address(path):
            problems += _room_problems(config, manifest)
    except (DataError, CheckpointError) as error:
        return [Problem(f"data.path: {problem.where}", problem.found, problem.expected) for problem in error.problems]
    return problems


def _changed_data_problems(config: RunConfig, manifest: Manifest) -> list[Problem]:
    state = read_newest_state(config.run_dir / "checkpoints") if config.checkpoint.resume != "never" else None
    before = str(state.get("data_fingerprint")) if state else manifest.fingerprint
    if before == manifest.fingerprint or config.data.allow_changed:
        return []
    found = f"another data set than the checkpoint's ({manifest.fingerprint[:12]}, not {before[:12]})"
    return [Problem("data.path", found, "the same data; --data.allow_changed true goes on with this one")]


def _room_problems(config: RunConfig, manifest: Manifest) -> list[Problem]:
    data = config.data
    try:
        plan_room(manifest, order=data.order, window_shards=data.window_shards, cache_gib=data.cache_gib)
    except DataError as error:
        return error.problems
    return []


def _companion_problems(folder: Path, manifest: Manifest) -> list[Problem]:
    found = fingerprint(folder / COMPANION)
    if found == manifest.vqvae_fingerprint:
        return []
    where = f"{folder / COMPANION}"
    return [
        Problem(where, f"VQ-VAE {found[:12]}", f"VQ-VAE {str(manifest.vqvae_fingerprint)[:12]}, which made the codes")
    ]


def build_session(config: RunConfig, task: Task, manifest: Manifest, ranks: Ranks) -> Session:
    """Build model, optimizer and their wrappings. Collective: DDP gives every rank the weights of rank 0."""
    _set_backends(config, ranks)
    accelerator = _build_accelerator(config)
    inner = task.build(config, manifest)
    if config.checkpoint.resume not in {"auto", "never"}:
        _start_from(inner, config.checkpoint.resume)
    inner = inner.to(ranks.device)
    if task.data_kind == "images" and ranks.device.type in {"cpu", "cuda"}:
        inner = inner.to(memory_format=torch.channels_last)
    if config.train.compile:
        inner.compile()
    with warnings.catch_warnings():
        # Accelerate 1.15 has no other word for it yet than the one that torch 2.15 calls deprecated.
        warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated", category=FutureWarning)
        model, optimizer = accelerator.prepare(inner, build_optimizer(inner, config.optim))
    weight_ema = WeightEMA(inner, config.optim.weight_ema) if config.optim.weight_ema else None
    usage = torch.zeros(config.model.num_codes, device=ranks.device) if isinstance(config.model, VQVAESection) else None
    session = Session(config, task, ranks, accelerator, model, inner, optimizer, weight_ema, Progress(), usage)
    settle(session, _blank_batch(manifest))
    return session


def _blank_batch(manifest: Manifest) -> Batch:
    """Return a micro-batch of one sample of zeros, which stands for no sample of the data."""
    shape = (manifest.channels, *manifest.image_size) if manifest.kind == "images" else manifest.grid or ()
    values = torch.zeros(1, *shape, dtype=torch.uint8 if manifest.kind == "images" else torch.int64)
    zero = torch.zeros(1, dtype=torch.int64)
    return Batch(0, True, values, label=zero, slice=zero, positions=torch.full((1,), NO_NUMBER))


def load_companion(path: str, manifest: Manifest, device: torch.device) -> tuple[nn.Module | None, Path | None]:
    """Return the VQ-VAE that a set of codes came from, and its folder; (None, None) for images."""
    if manifest.kind != "codes":
        return None, None
    folder = find_model(Path(path) / COMPANION)
    return load_model(folder).to(device), folder


def describe_data(manifest: Manifest) -> dict[str, Any]:
    """Return what a saved model tells of its data."""
    facts: dict[str, Any] = {
        "data_fingerprint": manifest.fingerprint,
        "image_size": list(manifest.image_size),
        "class_names": list(manifest.class_names),
    }
    if manifest.kind == "codes":
        facts |= {
            "grid": list(manifest.grid or ()),
            "vqvae_fingerprint": manifest.vqvae_fingerprint,
            "conditions": [list(row) for row in manifest.conditions],
        }
    return facts


def _build_accelerator(config: RunConfig) -> Accelerator:
    wanted = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    asked = {"fp32": "no"}.get(config.train.precision, config.train.precision)
    if wanted not in {"no", asked}:
        say(f"notice: the launcher's mixed precision {wanted} is ignored; train.precision is {config.train.precision}")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="OMP_NUM_THREADS")
        return Accelerator(
            mixed_precision=asked,
            cpu=config.run.device == "cpu",
            kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False, gradient_as_bucket_view=True)],
        )


def _set_backends(config: RunConfig, ranks: Ranks) -> None:
    if ranks.device.type != "cuda":
        return
    torch.backends.cudnn.benchmark = not config.run.deterministic
    torch.backends.cuda.matmul.allow_tf32 = not config.run.deterministic
    torch.backends.cudnn.allow_tf32 = not config.run.deterministic
    if config.run.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)


def _start_from(model: nn.Module, path: str) -> None:
    """Take the weights of a checkpoint, a run or a saved model as the first ones of a new run."""
    try:
        if (Path(path) / "COMMIT.json").exists():
            load_weights(model, load_checkpoint(Path(path))[0].get("model", {}))
        else:
            load_weights(model, load_model(path).state_dict())
    except UserError as error:
        where = f"checkpoint.resume {path}"
        problems = [Problem(f"{where}: {item.where}", item.found, item.expected) for item in error.problems]
        raise CheckpointError(problems) from error
