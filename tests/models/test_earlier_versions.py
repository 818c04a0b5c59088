"""Models saved by earlier versions are read and compute the same results."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vqdist import VQVAE, PixelCNN, load_model
from vqdist.models.io import fingerprint, read_model_card
from vqdist.models.model_card import FORMAT_VERSION

KEPT = sorted(path for path in (Path(__file__).parent / "kept").iterdir() if (path / "expected.safetensors").exists())
# A dataset of codes names its VQ-VAE by its fingerprint, which must not change either.
FINGERPRINTS = {
    "0.1": {
        "vqvae-ema": "ea963c72ed2555e95a98f3c1401726091d25737ba795fbb97deec57d1eb2ef57",
        "vqvae-grad": "976be41b3637121d3b1e8fbca6d7c2d0fc32d1daaadcec270a3124381ea81a53",
        "pixelcnn": "f7521792f7faf0ca7c24edbca4a6c619f00535a5d3b9cb611a23eb49c124250c",
    },
}


def test_the_current_format_is_among_the_kept_models() -> None:
    assert {read_model_card(folder / "pixelcnn").format_version for folder in KEPT} >= {FORMAT_VERSION}


@pytest.mark.parametrize("folder", KEPT, ids=lambda folder: folder.name)
@pytest.mark.parametrize("codebook", ["ema", "grad"])
def test_a_kept_vqvae_encodes_and_decodes_as_before(folder: Path, codebook: str) -> None:
    expected = load_file(folder / "expected.safetensors")
    model = load_model(folder / f"vqvae-{codebook}")
    assert isinstance(model, VQVAE)
    assert torch.equal(model.encode(expected["images"]), expected[f"{codebook}_codes"])
    recon = model.reconstruct(expected["images"])
    torch.testing.assert_close(recon, expected[f"{codebook}_recon"], rtol=0, atol=1e-5)
    assert 0.01 < recon.std() < 1, "a blank image would prove nothing"


@pytest.mark.parametrize("folder", KEPT, ids=lambda folder: folder.name)
def test_a_kept_prior_predicts_and_samples_as_before(folder: Path) -> None:
    expected = load_file(folder / "expected.safetensors")
    prior = load_model(folder / "pixelcnn")
    assert isinstance(prior, PixelCNN)
    conditions = {name: expected[name] for name in ("label", "slice")}
    logits = prior(expected["prior_codes"], **conditions)
    torch.testing.assert_close(logits, expected["logits"], rtol=0, atol=1e-4)
    codes = prior.sample(2, tuple(expected["greedy"].shape[1:]), temperature=0, **conditions)
    assert torch.equal(codes, expected["greedy"])
    assert torch.equal(load_model(folder / "pixelcnn" / "vqvae").encode(expected["images"]), expected["ema_codes"])


@pytest.mark.parametrize("folder", KEPT, ids=lambda folder: folder.name)
def test_a_kept_model_keeps_its_fingerprint(folder: Path) -> None:
    assert {name: fingerprint(folder / name) for name in FINGERPRINTS[folder.name]} == FINGERPRINTS[folder.name]
