"""What a stage is, without a run: its first weights and its previews."""

from pathlib import Path

import numpy as np
import pytest
import torch

from vqdist.config.loading import load_config
from vqdist.data.loading.batch import Batch
from vqdist.data.shards.manifest import load_manifest
from vqdist.models.io import load_model
from vqdist.models.pixelcnn import PixelCNN
from vqdist.models.vqvae import VQVAE
from vqdist.plotting.image_grids import GAP_PIXELS as GAP
from vqdist.training.tasks.tasks import get_task


def test_a_prior_starts_with_the_codebook_of_its_companion(code_set: Path) -> None:
    config, problems = load_config(None, [("task", "pixelcnn"), ("data.path", str(code_set)), ("model.hidden", "32")])
    assert config is not None
    assert problems == []
    companion = load_model(code_set)
    assert isinstance(companion, VQVAE)
    codebook = companion.quantizer.codebook
    model = get_task("pixelcnn").build(config, load_manifest(code_set), companion)
    assert isinstance(model, PixelCNN)
    distances = torch.stack([torch.pdist(codebook), torch.pdist(model.embedding.weight.detach())])
    assert torch.corrcoef(distances)[0, 1].item() > 0.9999


@pytest.mark.parametrize("count", [3, 8])
def test_a_preview_has_the_originals_in_its_upper_row(count: int) -> None:
    values = torch.randint(256, (count, 1, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    numbers = torch.arange(count)
    batch = Batch(
        0, True, values, numbers, numbers, numbers, torch.ones(count), [str(number) for number in range(count)]
    )
    model = VQVAE(1, hidden=8, residual_hidden=4, residual_layers=1, downsample=4, code_dim=4, num_codes=16)
    picture = get_task("vqvae").preview(model.eval(), batch, None, 0)[0]
    side = 16 + GAP
    assert picture.shape == (2 * side + GAP, count * side + GAP)
    for index in range(count):
        found = picture[GAP : GAP + 16, GAP + index * side :][:, :16]
        np.testing.assert_array_equal(found, values[index, 0].numpy())
