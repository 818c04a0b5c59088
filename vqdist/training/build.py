"""Build the training state of a run: task, model, optimizer, and their wrappers."""

import os
import warnings
from collections.abc import Collection

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs

from vqdist.config.attributes import select_attributes
from vqdist.config.schema import RunConfig
from vqdist.data.augmentation import Augmentation
from vqdist.data.loading.batch import NO_NUMBER, Batch
from vqdist.data.shards.manifest import Manifest
from vqdist.distributed.process_group import Ranks
from vqdist.foundation.devices import queues_work, set_arithmetic
from vqdist.foundation.progress import print_from_any_rank
from vqdist.models.map_conditions import NO_CODE, MapConditions
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
        # Sizes that vary would be compiled to graphs with symbolic sizes, which are slower. Where damaged samples are
        # left out, a batch can have any size.
        model.compile(dynamic=False if config.data.on_error == "raise" else None)
    compiled = config.train.compile and queues_work(ranks.device)
    optimizer = build_optimizer(model, task.hidden_weights(), config.optim, ranks, compiled=compiled)
    with warnings.catch_warnings():
        # Accelerate 1.15 passes an argument that torch 2.15 deprecates.
        warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated", category=FutureWarning)
        # The prepared optimizer only calls the loss scaler, which a step does itself; the scaler must know this one.
        wrapped, _ = accelerator.prepare(model, optimizer)
    weight_ema = WeightEMA(model, config.optim.weight_ema) if config.optim.weight_ema else None
    state = TrainingState(config, task, ranks, accelerator, wrapped, optimizer, weight_ema)
    settle_buckets(state, _blank_batch(config, task.manifest, ranks))
    return state


def _blank_batch(config: RunConfig, manifest: Manifest, ranks: Ranks) -> Batch:
    """Return a batch of zeros with weight 0: one sample, or the shape of a micro-batch if it is compiled."""
    size, shape = 1, manifest.values_shape
    if config.train.compile:
        share = -(-config.data.global_batch_size // ranks.world_size)
        size = min(config.data.micro_batch_size or share, share)
        augmentation = Augmentation.from_settings(config.data, seed=config.run.seed)
        shape = shape if augmentation is None else augmentation.shape(shape)
    values = torch.zeros(size, *shape, dtype=torch.uint8 if manifest.kind == "images" else torch.int64)
    zeros = torch.zeros(size, dtype=torch.int64)
    previous = torch.full_like(values, NO_CODE) if config.model.reads_previous else None
    conditions = MapConditions(zeros, zeros, previous=previous)
    return Batch(0, True, values, conditions, torch.full((size,), NO_NUMBER), torch.zeros(size))


def describe_data(manifest: Manifest, names: Collection[str]) -> DataDescription:
    """Return the facts about a dataset that are saved with a model trained on it.

    Args:
        names: of the attributes that the model is conditioned on; of others, such as a diagnosis, nothing is saved.
    """
    attributes, rows = select_attributes(manifest.attributes, manifest.attribute_rows, names)
    return DataDescription(
        data_fingerprint=manifest.fingerprint,
        image_size=manifest.image_size,
        class_names=manifest.class_names,
        grid=manifest.grid,
        vqvae_fingerprint=manifest.vqvae_fingerprint,
        conditions=manifest.conditions if manifest.kind == "codes" else None,
        affine=manifest.affine,
        attributes=attributes,
        attribute_rows=rows,
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
    set_arithmetic(ranks.device)
    if not queues_work(ranks.device):
        return
    torch.backends.cudnn.benchmark = not config.run.deterministic
    if config.run.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
