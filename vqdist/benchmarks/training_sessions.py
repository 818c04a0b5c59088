"""Training sessions on synthetic images, built as in a run, and their batches."""

from pathlib import Path

import torch
from accelerate.state import AcceleratorState

from vqdist.config.loading import load_config
from vqdist.data.loading.batch import Batch
from vqdist.data.shards.manifest import Manifest, SplitInfo
from vqdist.data.sources.phantom import phantom_slice
from vqdist.distributed.process_group import Ranks
from vqdist.foundation.errors import ConfigError
from vqdist.models.map_conditions import MapConditions
from vqdist.training.build import build_state
from vqdist.training.state import TrainingState
from vqdist.training.tasks.vqvae import VQVAETask


def build_paper_session(
    ranks: Ranks, *, image_size: int, batch_size: int, precision: str, compiled: bool = False, hidden: int = 128
) -> TrainingState:
    """Build the state of a VQ-VAE with the layers of van den Oord et al. 2017 and downsampling 4.

    Must be called by all ranks.
    """
    flags = {
        "run.device": ranks.device.type,
        "data.global_batch_size": batch_size,
        "model.hidden": hidden,
        "model.downsample": 4,
        "train.precision": precision,
        "train.compile": str(compiled).lower(),
        "optim.decay_steps": 10_000,
    }
    config, problems = load_config(None, [(name, str(value)) for name, value in flags.items()])
    if config is None or problems:
        raise ConfigError(problems)
    split = SplitInfo((), 0, 1, (0.15,), (0.04,))
    manifest = Manifest("images", (image_size, image_size), 1, {"train": split})
    # Accelerate keeps the precision of the first session of a process and offers no public reset.
    AcceleratorState._reset_state()
    state = build_state(config, VQVAETask(config, manifest, Path(), ranks.device), ranks)
    state.task.model.train()
    return state


def make_images(count: int, image_size: int) -> torch.Tensor:
    """Return synthetic slices, shape (count, 1, H, W), uint8."""
    slices = [phantom_slice(number, 8 + number % 16, image_size=image_size) for number in range(count)]
    return torch.stack([torch.from_numpy(pixels)[None] for pixels in slices])


def make_batch(images: torch.Tensor, *, rank: int = 0, world_size: int = 1) -> Batch:
    """Return the micro-batch of a rank from a global batch of images."""
    share = images[rank::world_size].clone()
    nothing = torch.full((len(share),), -1)
    positions = torch.arange(rank, len(images), world_size)
    keys = [f"k{position}" for position in positions.tolist()]
    return Batch(1, True, share, MapConditions(nothing, nothing.clone()), positions, torch.ones(len(share)), keys)
