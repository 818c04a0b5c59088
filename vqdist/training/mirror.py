"""Images mirrored left and right as they are trained on; which ones follows from the seed and the step."""

from dataclasses import replace

import torch

from vqdist.data.loader import Batch
from vqdist.seeds import derive_seed


def mirror_half(batch: Batch, *, seed: int, step: int, global_batch_size: int) -> Batch:
    """Mirror each image of a batch with a probability of one half; the same ones on any number of ranks.

    Args:
        batch: its values are images (B, C, H, W), its positions those in the global batch.
    """
    generator = torch.Generator().manual_seed(derive_seed(seed, "mirror", step))
    chosen = torch.randint(2, (global_batch_size,), generator=generator).bool().to(batch.values.device)
    here = chosen[batch.positions].view(-1, 1, 1, 1)
    return replace(batch, values=torch.where(here, batch.values.flip(-1), batch.values))
