"""A third task, complete: an MLP that predicts the mean of a slice. It registers nothing anywhere."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from vqdist.config.model_config import ModelConfig
from vqdist.config.section import Int, key
from vqdist.data.loading.batch import Batch, to_images
from vqdist.foundation.command import run_command
from vqdist.foundation.seeds import derive_seed
from vqdist.training.tasks.task import Losses, Task


class MeanConfig(ModelConfig):
    """The keys of the model."""

    data_kind = "images"
    width: Int = key(8, "hidden units", ge=1)


class MeanMLP(nn.Module):
    """Two layers on the flattened slice."""

    def __init__(self, pixels: int, width: int) -> None:
        super().__init__()
        self.config: dict[str, Any] = {"pixels": pixels, "width": width}
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(pixels, width), nn.ReLU(), nn.Linear(width, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(images)[:, 0]


class MeanTask(Task):
    """Predict the mean of a slice."""

    name = "mean"
    config_type = MeanConfig

    def build(self) -> nn.Module:
        assert isinstance(self.config.model, MeanConfig)
        torch.manual_seed(derive_seed(self.config.run.seed, "weights"))
        height, width = self.manifest.image_size
        self.model = MeanMLP(self.manifest.channels * height * width, self.config.model.width)
        return self.model

    def losses(self, model: nn.Module, batch: Batch, *, training: bool) -> Losses:
        images = to_images(batch.values)
        return Losses({"loss": (model(images) - images.mean((1, 2, 3))).square()})

    def preview(self, batch: Batch) -> npt.NDArray[np.uint8]:
        means = self.model(to_images(batch.values)).clamp(0, 1).mul(255).byte().cpu().numpy()
        return np.repeat(means[None, None], 8, axis=1)


def run(words: list[str]) -> int:
    """Train from the words of a command line, as a script of one's own would."""
    from vqdist.distributed.stop_requests import handling_stop_requests
    from vqdist.train import train

    with handling_stop_requests() as stop:
        return run_command(lambda argv: train(argv, stop, MeanTask), words)
