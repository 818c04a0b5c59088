"""Images mirrored and cut as they are trained on; how each is follows from the seed, the step and its place there."""

from dataclasses import replace

import torch

from vqdist.config.schema import DataSection
from vqdist.data.loading.batch import Batch
from vqdist.data.mirror import mirror_images
from vqdist.foundation.seeds import derive_seed


def augment(batch: Batch, data: DataSection, *, seed: int, step: int) -> Batch:
    """Mirror and cut the images of a batch as `data.mirror` and `data.crop` say, alike on any number of ranks.

    Args:
        batch: on the CPU; its values are images (B, C, H, W), its positions those in the global batch.
    Returns:
        The batch with images (B, C, crop, crop), or (B, C, H, W) where data.crop is null.
    """
    values = batch.values
    generator = torch.Generator().manual_seed(derive_seed(seed, "augmentation", step))
    draws = torch.rand(data.global_batch_size, 3, generator=generator)[batch.positions]
    if data.crop is not None:
        room = torch.tensor(values.shape[-2:]) - data.crop
        corners = (draws[:, :2] * (room + 1)).long().tolist()
        squares = zip(values, corners, strict=True)
        values = torch.stack([image[:, y : y + data.crop, x : x + data.crop] for image, (y, x) in squares])
    if data.mirror != "none":
        values = torch.where((draws[:, 2] < 0.5).view(-1, 1, 1, 1), mirror_images(values, data.mirror), values)
    if batch.values.is_pinned():  # so that its way to a GPU need not be waited for
        values = values.pin_memory()
    return replace(batch, values=values)
