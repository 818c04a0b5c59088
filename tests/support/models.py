"""Untrained models, saved as those of a run."""

from pathlib import Path

import torch
from support.datasets import SIZE, TINY_VQVAE

from vqdist.config.command_options import EncodeOptions
from vqdist.data.shards.manifest import load_manifest
from vqdist.distributed.process_group import Ranks
from vqdist.inference.encoding import encode
from vqdist.models.io import save_model
from vqdist.models.model_card import DataDescription
from vqdist.models.pixelcnn import PixelCNN
from vqdist.models.vqvae import VQVAE

ALONE = Ranks(0, 1, 0, torch.device("cpu"))


def save_vqvae(run: Path, *, channels: int = 1, num_codes: int = 16, seed: int = 0) -> Path:
    """Save an untrained VQ-VAE, its codebook initialized from latents, as the model of a run."""
    torch.manual_seed(seed)
    model = VQVAE(channels, **TINY_VQVAE | {"num_codes": num_codes})
    latents = model.latents(torch.rand(4, channels, SIZE, SIZE))
    model.quantizer.initialize(latents.detach().permute(0, 2, 3, 1).reshape(-1, 4), seed)
    save_model(model.eval(), run / "model", step=0, data=DataDescription(image_size=(SIZE, SIZE)))
    return run


def write_codes(out: Path, run: Path, images: Path) -> Path:
    """Encode a dataset with the VQ-VAE of a run."""
    encode(EncodeOptions(run=run, data=images, out=out), ALONE)
    return out


def save_prior(
    run: Path,
    codes: Path,
    *,
    condition: str = "none",
    context: str = "none",
    condition_dropout: float = 0.0,
    seed: int = 0,
) -> Path:
    """Save an untrained PixelCNN for a dataset of codes as the model of a run."""
    torch.manual_seed(seed)
    manifest = load_manifest(codes)
    assert manifest.num_codes is not None
    numbers = {"num_labels": manifest.num_labels, "num_slices": manifest.num_slices}
    keys = {"condition": condition, "context": context, "condition_dropout": condition_dropout}
    model = PixelCNN(manifest.num_codes, hidden=8, layers=2, **keys, **numbers)
    torch.nn.init.normal_(model.head[-1].weight)
    data = DataDescription(grid=manifest.grid, conditions=manifest.conditions, affine=manifest.affine)
    save_model(model.eval(), run / "model", step=0, data=data, vqvae_dir=codes)
    return run
