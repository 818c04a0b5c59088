"""Base class of the tasks: the interface that the training loop uses.

To add a stage: write a ModelConfig with its keys and a Task, and pass the task to `vqdist.train.train`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from vqdist.config.model_config import ModelConfig
from vqdist.config.schema import RunConfig
from vqdist.data.loading.batch import Batch
from vqdist.data.loading.pipeline import DataPipeline
from vqdist.data.shards.manifest import Manifest
from vqdist.distributed.process_group import Ranks
from vqdist.foundation.errors import Problem


@dataclass(frozen=True)
class Losses:
    """The losses of a batch.

    Attributes:
        terms: name -> (B,) value of each sample; "loss" is minimised.
        totals: name -> tensor to sum over batches and ranks, for `Task.metrics`.
    """

    terms: dict[str, Tensor]
    totals: dict[str, Tensor] = field(default_factory=dict)


class Task(ABC):
    """One stage: its model, its losses and everything else that is particular to it.

    The loop calls, in this order: `build` once, `initialize` at step 0, and per step `begin_step`, `losses` for each
    micro-batch, `buffers_to_reduce`, whose tensors it sums over the ranks in place, and `end_step`.

    Args:
        config: the resolved configuration.
        manifest: of the dataset.
        data_dir: folder of the dataset.
        device: where the model is trained.

    Attributes:
        name: of the task in the configuration.
        config_type: the keys of the `model` section.
        memory_format: of the model's weights on CPUs; on GPUs it is channels_last.
        chosen_by: validate metric by which the best model of a run is chosen; lower is better.
        model: set by `build`.
    """

    name: ClassVar[str]
    config_type: ClassVar[type[ModelConfig]]
    memory_format: ClassVar[torch.memory_format] = torch.contiguous_format
    chosen_by: ClassVar[str] = "loss"
    model: nn.Module

    def __init__(self, config: RunConfig, manifest: Manifest, data_dir: Path, device: torch.device) -> None:
        self.config, self.manifest, self.data_dir, self.device = config, manifest, data_dir, device

    @classmethod
    def find_problems(cls, config: RunConfig, manifest: Manifest) -> list[Problem]:
        """Return the problems of a configuration with a dataset of the right kind."""
        return []

    @abstractmethod
    def build(self) -> nn.Module:
        """Build the model on the default device and keep it as `model`. Random draws depend only on run.seed."""

    def hidden_weights(self) -> list[nn.Parameter]:
        """Return the weights that Muon updates: those between the first and the last layer."""
        return []

    def initialize(self, pipeline: DataPipeline, ranks: Ranks) -> None:
        """Initialise what depends on the data, before step 1. Must be called by all ranks."""

    def begin_step(self, step: int) -> None:
        """Prepare for the forward passes of a step, counted from 1."""

    @abstractmethod
    def losses(self, model: nn.Module, batch: Batch, *, training: bool) -> Losses:
        """Return the losses of a batch on the device; `model` is `self.model`, which DDP may wrap."""

    def buffers_to_reduce(self) -> list[Tensor]:
        """Return the tensors that the loop sums over the ranks, in place, after the last micro-batch of a step."""
        return []

    def end_step(self, finite: bool) -> None:
        """Apply the reduced buffers if the step was finite on all ranks; else drop them."""

    def take_totals(self) -> dict[str, Tensor]:
        """Return the totals of the training steps since the last call, and reset them."""
        return {}

    def metrics(self, totals: Mapping[str, Tensor]) -> dict[str, float]:
        """Return the metrics that summed totals give."""
        return {}

    def state(self) -> dict[str, Tensor]:
        """Return the tensors that a checkpoint keeps besides model and optimizer."""
        return {}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore what `state` returned; checkpoints of earlier versions may lack tensors."""

    @abstractmethod
    def preview(self, batch: Batch) -> npt.NDArray[np.uint8]:
        """Return one picture of the model's output for a batch on the device: (C, height, width) uint8."""

    @property
    def vqvae_dir(self) -> Path | None:
        """The folder of the VQ-VAE that is saved with the model; None for none."""
        return None
