"""The validate metrics of a VQ-VAE: what the best model is chosen by, and the use of codes inside the brain."""

from pathlib import Path

import pytest
import torch

from vqdist.config.loading import load_config
from vqdist.data.loading.batch import Batch
from vqdist.data.shards.manifest import load_manifest
from vqdist.metrics.codes import perplexity
from vqdist.training.tasks.vqvae import VQVAETask


def test_the_best_model_is_chosen_by_the_image_terms(image_set: Path) -> None:
    flags = {"hidden": 8, "residual_hidden": 4, "downsample": 4, "num_codes": 16, "ssim_weight": 2, "l1_weight": 1}
    config, problems = load_config(None, [(f"model.{name}", str(value)) for name, value in flags.items()])
    assert config is not None
    assert not problems
    task = VQVAETask(config, load_manifest(image_set), image_set, torch.device("cpu"))
    model = task.build().eval()
    values = torch.randint(1, 256, (3, 1, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    values[:, :, :, :8] = 0  # background
    numbers = torch.arange(3)
    batch = Batch(0, True, values, numbers, numbers, numbers, torch.ones(3), ["a", "b", "c"])
    with torch.no_grad():
        losses = task.losses(model, batch, training=False)
    terms = losses.terms
    expected = terms["recon_loss"] + terms["l1"] + 2 * terms["dissimilarity"]
    torch.testing.assert_close(terms[task.chosen_by], expected)
    assert (terms["codebook_loss"] > 0).all()
    codes = model.encode(values / 255)
    metrics = task.metrics(losses.totals)
    assert metrics["perplexity"] == pytest.approx(perplexity(torch.bincount(codes.flatten())))
    assert metrics["perplexity_brain"] == pytest.approx(perplexity(torch.bincount(codes[:, :, 2:].flatten())))
