"""From a configuration to the parts of a run that can start."""

import os
import warnings
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from torch import nn

from vqdist.config.model_config import VQVAEConfig
from vqdist.config.schema import RunConfig
from vqdist.data.loading.batch import NO_NUMBER, Batch
from vqdist.data.shards.manifest import Manifest
from vqdist.distributed.process_group import Ranks
from vqdist.foundation.progress import print_from_any_rank
from vqdist.models.io import find_model, load_model
from vqdist.models.model_card import DataDescription
from vqdist.runs.run_dir import follow_first_start
from vqdist.training.optim import WeightEMA, build_optimizer
from vqdist.training.precision import choose_precision
from vqdist.training.state import Session, TrainingProgress, load_weights, read_weights
from vqdist.training.step import settle
from vqdist.training.tasks.tasks import Task

COMPANION = "vqvae"


def resolve(config: RunConfig) -> RunConfig:
    """Return the configuration with nothing left open.

    What the run's first start settled holds; a checkpoint to start from is named so that any folder can ask for it.
    """
    if config.checkpoint.resume not in {"auto", "never"}:
        config = config.replace("checkpoint", resume=str(Path(config.checkpoint.resume).absolute()))
    config = follow_first_start(config)
    if config.optim.decay_steps is None:
        config = config.replace("optim", decay_steps=config.train.max_steps)
    if config.train.precision == "auto":
        config = config.replace("train", precision=choose_precision(config.run.device))
    return config


def agree_on_precision(config: RunConfig, ranks: Ranks) -> RunConfig:
    """Return the configuration with rank 0's precision: nodes may differ in what they are made for. Collective."""
    return config.replace("train", precision=ranks.broadcast_object(config.train.precision))


def demo_folder(config: RunConfig) -> Path:
    """Return where the data of a run without data.path lie, made up at its first start."""
    return Path(config.run.dir) / "demo-data"


def build_session(
    config: RunConfig, task: Task, manifest: Manifest, ranks: Ranks, companion: nn.Module | None = None
) -> Session:
    """Build model, optimizer and their wrappings.

    Args:
        companion: the VQ-VAE that codes came from, whose codebook a prior starts with.
    Collective: DDP gives every rank the weights of rank 0.
    """
    _set_backends(config, ranks)
    accelerator = _build_accelerator(config)
    inner = task.build(config, manifest, companion)
    if config.checkpoint.resume not in {"auto", "never"}:
        load_weights(inner, read_weights(config.checkpoint.resume))
    inner = inner.to(ranks.device)
    if task.data_kind == "images" and ranks.device.type in {"cpu", "cuda"}:
        inner = inner.to(memory_format=torch.channels_last)
    if config.train.compile:
        inner.compile()
    with warnings.catch_warnings():
        # Accelerate 1.15 has no other word for it yet than the one that torch 2.15 calls deprecated.
        warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated", category=FutureWarning)
        model, optimizer = accelerator.prepare(inner, build_optimizer(inner, config.optim, ranks))
    weight_ema = WeightEMA(inner, config.optim.weight_ema) if config.optim.weight_ema else None
    usage = torch.zeros(config.model.num_codes, device=ranks.device) if isinstance(config.model, VQVAEConfig) else None
    session = Session(config, task, ranks, accelerator, model, inner, optimizer, weight_ema, TrainingProgress(), usage)
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


def describe_data(manifest: Manifest) -> DataDescription:
    """Return the facts about a dataset that are saved with a model trained on it."""
    return DataDescription(
        data_fingerprint=manifest.fingerprint,
        image_size=manifest.image_size,
        class_names=manifest.class_names,
        grid=manifest.grid,
        vqvae_fingerprint=manifest.vqvae_fingerprint,
        conditions=manifest.conditions if manifest.kind == "codes" else None,
    )


def _build_accelerator(config: RunConfig) -> Accelerator:
    wanted = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    asked = {"fp32": "no"}.get(config.train.precision, config.train.precision)
    if wanted not in {"no", asked}:
        print_from_any_rank(
            f"notice: the launcher's mixed precision {wanted} is ignored; train.precision is {config.train.precision}"
        )
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
