"""What a stage is, without a run: its previews."""

import numpy as np
import pytest
import torch

from vqdist.data.loader import Batch
from vqdist.figures import GAP_PIXELS as GAP
from vqdist.models.vqvae import VQVAE
from vqdist.training.tasks import get_task


@pytest.mark.parametrize("count", [3, 8])
def test_a_preview_has_the_originals_in_its_upper_row(count: int) -> None:
    values = torch.randint(256, (count, 1, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    numbers = torch.arange(count)
    batch = Batch(0, True, values, numbers, numbers, numbers, [str(number) for number in range(count)])
    model = VQVAE(1, hidden=8, residual_hidden=4, residual_layers=1, downsample=4, code_dim=4, num_codes=16)
    picture = get_task("vqvae").preview(model.eval(), batch, None, 0)[0]
    side = 16 + GAP
    assert picture.shape == (2 * side + GAP, count * side + GAP)
    for index in range(count):
        found = picture[GAP : GAP + 16, GAP + index * side :][:, :16]
        np.testing.assert_array_equal(found, values[index, 0].numpy())
