"""Augmentation of training images: mirroring and cropping, drawn from the seed, the step and the position."""

from dataclasses import replace

import torch
from torch import Tensor

from vqdist.config.augmentation import Mirror
from vqdist.config.schema import DataSection
from vqdist.data.loading.batch import Batch
from vqdist.foundation.seeds import derive_seed

# The axis of (..., H, W) that each mirroring reverses. Slices of vqdist have the subject's left at the top.
AXES: dict[Mirror, int] = {"up-down": -2, "left-right": -1}


def mirror_images(images: Tensor, mirror: Mirror) -> Tensor:
    """Mirror images (..., H, W); up-down reverses the order of the rows, left-right that of the columns."""
    return images.flip(AXES[mirror]) if mirror in AXES else images


def augment(batch: Batch, data: DataSection, *, seed: int, step: int) -> Batch:
    """Mirror and crop the images of a batch as `data.mirror` and `data.crop` configure.

    The draws depend on the position in the global batch only, so any number of ranks trains on the same images.

    Args:
        batch: on the CPU; values are images (B, C, H, W).
    Returns:
        The batch with images (B, C, crop, crop), or (B, C, H, W) if `data.crop` is null.
    """
    assert data.mirror != "auto", "chosen when the dataset was opened"
    assert data.crop != "auto", "chosen when the dataset was opened"
    values = batch.values
    generator = torch.Generator().manual_seed(derive_seed(seed, "augmentation", step))
    draws = torch.rand(data.global_batch_size, 3, generator=generator)[batch.positions]
    if data.crop is not None:
        max_corner = torch.tensor(values.shape[-2:]) - data.crop
        corners = (draws[:, :2] * (max_corner + 1)).long().tolist()
        crops = zip(values, corners, strict=True)
        values = torch.stack([image[:, y : y + data.crop, x : x + data.crop] for image, (y, x) in crops])
    if data.mirror != "none":
        values = torch.where((draws[:, 2] < 0.5).view(-1, 1, 1, 1), mirror_images(values, data.mirror), values)
    if batch.values.is_pinned():  # for an asynchronous copy to the GPU
        values = values.pin_memory()
    return replace(batch, values=values)
