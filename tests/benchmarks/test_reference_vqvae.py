"""The reference VQ-VAE has our layers, and its quantizer agrees with ours."""

import pytest
import torch

from vqdist.benchmarks.reference_vqvae import OneHotQuantizer, ReferenceVQVAE
from vqdist.models.quantizer import VectorQuantizer
from vqdist.models.vqvae import VQVAE


@pytest.mark.parametrize(("downsample", "channels"), [(4, 1), (8, 3)])
def test_reference_has_the_layers_of_ours(downsample: int, channels: int) -> None:
    ours = VQVAE(channels, hidden=128, residual_hidden=32, residual_layers=2, downsample=downsample)
    reference = ReferenceVQVAE(128, 32, 512, 64, downsample=downsample, channels=channels)
    counts = [sum(parameter.numel() for parameter in model.parameters()) for model in (ours, reference)]
    assert counts[0] == counts[1]
    recon, _, codes = reference(torch.rand(1, channels, 16, 16))
    assert recon.shape == (1, channels, 16, 16)
    assert codes.shape == (1, 16 // downsample, 16 // downsample)


def test_quantizer_finds_the_codes_of_ours() -> None:
    torch.manual_seed(0)
    reference, ours = OneHotQuantizer(16, 4).eval(), VectorQuantizer(16, 4, codebook="ema").eval()
    latents = torch.randn(2, 4, 5, 5)
    ours.initialize(reference.codebook.clone(), 0)
    order = torch.cdist(reference.codebook, ours.codebook).argmin(dim=1)
    quantized, loss, codes = reference(latents)
    our_quantized, our_codes, _ = ours(latents)
    torch.testing.assert_close(quantized, our_quantized)
    assert torch.equal(order[codes], our_codes)
    assert loss.item() == pytest.approx(0.25 * ((quantized - latents) ** 2).mean().item(), rel=1e-5)
