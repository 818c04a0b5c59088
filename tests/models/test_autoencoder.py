"""Encoder and decoder: the layers of the paper, widths at each resolution, the field of view."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from vqdist.config.model_config import VQVAEConfig
from vqdist.models.autoencoder import Decoder, Encoder, Upsample, compute_widths, init_weights


def count_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_layers_are_those_of_the_paper() -> None:
    """One channel, hidden 128, residual 2 x 32, D 64, downsample 4: the weights counted by hand."""
    config = VQVAEConfig(downsample=4)
    residuals = 2 * (128 * 32 * 9 + 32 + 32 * 128 + 128)
    encoder = (16 * 64 + 64) + (64 * 128 * 16 + 128) + (128 * 128 * 9 + 128) + residuals + (128 * 64 + 64)
    decoder = (64 * 128 * 9 + 128) + residuals + (128 * 64 * 16 + 64) + (64 * 16 + 1)
    assert count_parameters(Encoder(1, config)) == encoder
    assert count_parameters(Decoder(1, config)) == decoder


@pytest.mark.parametrize(("downsample", "patch", "widths"), [
    (4, 4, [16, 16]), (8, 4, [16, 8, 16]), (16, 4, [16, 4, 8, 16]), (4, 2, [4, 8, 16]), (16, 1, [1, 8, 16, 16, 16]),
])  # fmt: skip
def test_patches_fold_pixels_and_halve_the_widths_above_the_grid(
    downsample: int, patch: int, widths: list[int]
) -> None:
    fine_layers = 2 * (patch < downsample)
    config = VQVAEConfig(hidden=16, downsample=downsample, patch=patch, fine_layers=fine_layers, code_dim=8)
    encoder, decoder = Encoder(1, config), Decoder(1, config)
    assert compute_widths(1, config) == widths
    assert [(layer.in_channels, layer.out_channels) for layer in encoder.down] == list(pairwise(widths))
    assert [layer.in_channels for layer in decoder.up] == widths[:0:-1]
    assert [len(layers) for layers in encoder.fine] == [2] * (len(widths) - 2) + [0]
    assert [len(layers) for layers in decoder.fine] == [0] + [2] * (len(widths) - 2)
    images = torch.rand(3, 1, 32, 48)
    latents = encoder(images)
    recon = decoder(latents)
    assert latents.shape == (3, 8, 32 // downsample, 48 // downsample)
    assert recon.shape == images.shape
    recon.square().sum().backward()
    for name, parameter in [*encoder.named_parameters(), *decoder.named_parameters()]:
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_the_encoder_sees_every_pixel() -> None:
    config = VQVAEConfig(hidden=8, residual_hidden=4, residual_layers=1, downsample=8, code_dim=4)
    images = torch.rand(1, 1, 32, 32, requires_grad=True)
    Encoder(1, config)(images).square().sum().backward()
    assert (images.grad != 0).float().mean() > 0.95


@pytest.mark.parametrize("channels", [1, 12])
def test_upsample_is_a_transposed_convolution(channels: int) -> None:
    layer, plain = Upsample(6, channels), nn.ConvTranspose2d(6, channels, 4, stride=2, padding=1)
    plain.load_state_dict(layer.state_dict())
    features = torch.randn(2, 6, 5, 7)
    torch.testing.assert_close(layer(features), plain(features))


def test_initial_latents_have_unit_scale_and_residual_blocks_are_near_the_identity() -> None:
    torch.manual_seed(0)
    encoder = Encoder(1, VQVAEConfig(hidden=64))
    init_weights(encoder)
    assert 0.3 < encoder(torch.randn(4, 1, 64, 64)).std() < 3
    features = torch.randn(2, 64, 8, 8)
    assert (encoder.residuals[0](features) - features).std() < 0.2 * features.std()
