"""Build the training state of a run: task, model, optimizer, and their wrappers."""

import os
import warnings

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs

from vqdist.config.schema import RunConfig
from vqdist.data.loading.batch import NO_NUMBER, Batch
from vqdist.data.shards.manifest import Manifest
from vqdist.distributed.process_group import Ranks
from vqdist.foundation.devices import queues_work
from vqdist.foundation.progress import print_from_any_rank
from vqdist.models.model_card import DataDescription
from vqdist.training.optim import WeightEMA, build_optimizer
from vqdist.training.state import TrainingState, load_weights, read_weights
from vqdist.training.step import settle_buckets
from vqdist.training.tasks.task import Task


def build_state(config: RunConfig, task: Task, ranks: Ranks) -> TrainingState:
    """Build model, optimizer and their wrappers.

    Must be called by all ranks: DDP gives each the weights of rank 0.
    """
    _set_backends(config, ranks)
    accelerator = _build_accelerator(config)
    model = task.build()
    if config.checkpoint.resume not in {"auto", "never"}:
        load_weights(model, read_weights(config.checkpoint.resume))
    model.to(ranks.device)
    if queues_work(ranks.device):
        model.to(memory_format=torch.channels_last)  # the layout of all features; cuDNN would copy other kernels to it
    elif ranks.device.type == "cpu":
        model.to(memory_format=task.memory_format)
    if config.train.compile:
        model.compile()
    compiled = config.train.compile and queues_work(ranks.device)
    optimizer = build_optimizer(model, task.hidden_weights(), config.optim, ranks, compiled=compiled)
    with warnings.catch_warnings():
        # Accelerate 1.15 passes an argument that torch 2.15 deprecates.
        warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated", category=FutureWarning)
        # The prepared optimizer only calls the loss scaler, which a step does itself; the scaler must know this one.
        wrapped, _ = accelerator.prepare(model, optimizer)
    weight_ema = WeightEMA(model, config.optim.weight_ema) if config.optim.weight_ema else None
    state = TrainingState(config, task, ranks, accelerator, wrapped, optimizer, weight_ema)
    settle_buckets(state, _blank_batch(task.manifest))
    return state


def _blank_batch(manifest: Manifest) -> Batch:
    """Return a batch of one sample of zeros with weight 0."""
    values = torch.zeros(1, *manifest.values_shape, dtype=torch.uint8 if manifest.kind == "images" else torch.int64)
    zero = torch.zeros(1, dtype=torch.int64)
    return Batch(0, True, values, zero, zero, torch.full((1,), NO_NUMBER), torch.zeros(1))


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
        found = f"the launcher's mixed precision {wanted} is ignored"
        print_from_any_rank(f"notice: {found}; train.precision is {config.train.precision}")
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
