"""The starter pair in the package: small, under open terms, and a prior that knows brains from noise."""

import torch

from vqdist import VQVAE, PixelCNN, load_model
from vqdist.foundation.model_names import STARTER_FOLDER
from vqdist.models.io import read_model_files

MAX_BYTES = 6_000_000


def test_the_pair_is_small() -> None:
    assert sum(path.stat().st_size for path in STARTER_FOLDER.rglob("*") if path.is_file()) < MAX_BYTES


def test_samples_are_brains_and_cost_fewer_bits_than_noise() -> None:
    prior, vqvae = load_model("starter"), load_model("starter/vqvae")
    assert isinstance(prior, PixelCNN)
    assert isinstance(vqvae, VQVAE)
    grid = read_model_files(STARTER_FOLDER).card.data.grid
    assert grid is not None
    codes = prior.sample(4, grid, slice=16)
    bits = prior.bits(codes, slice=16).mean()
    assert bits < 4 < prior.bits(torch.randint(256, codes.shape), slice=16).mean()
    images = vqvae.decode(codes)
    border = torch.cat([images[..., :8, :].flatten(), images[..., -8:, :].flatten()])
    assert border.mean() < 0.02 < 0.3 < images[..., 40:88, 40:88].mean()
    # The VQ-VAE reconstructs them: a decoded slice is encoded to nearly the same picture.
    assert (vqvae.reconstruct(images) - images).abs().mean() < 0.02


def test_the_card_has_its_sources_and_no_path() -> None:
    card = (STARTER_FOLDER / "README.md").read_text()
    for text in (
        "license: apache-2.0",
        "vqdist sample --prior starter",
        "Billot et al.",
        "provided that the above copyright notice appear in all copies",
        "`ssim_brain`",
        "`membership_auc`",
        "Near copies of training slices: 0 of 256 samples",
    ):
        assert text in card
    assert "/tmp" not in card
    assert "/home" not in card
