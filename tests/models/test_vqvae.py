"""The VQ-VAE: shapes, losses against formulas, gradients of all parameters, training, and validation of arguments."""

import math

import pytest
import torch
import torch.nn.functional as F

from vqdist.foundation.errors import ConfigError, UserError
from vqdist.metrics.images import ssim_map
from vqdist.models.vqvae import VQVAE

SMALL = {"downsample": 4, "hidden": 16, "residual_hidden": 8, "code_dim": 8, "num_codes": 32}


def build(channels: int = 1, **options) -> VQVAE:
    torch.manual_seed(0)
    return VQVAE(channels, **{**SMALL, **options})


def images_of(channels: int = 1, *, size: tuple[int, int] = (32, 48), count: int = 3) -> torch.Tensor:
    """Return smooth images, which a model can learn."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, channels, 4, 4, generator=generator)
    return F.interpolate(coarse, size, mode="bicubic").clamp(0, 1)


@pytest.mark.parametrize("downsample", [4, 8, 16])
@pytest.mark.parametrize("channels", [1, 3])
def test_shapes(channels: int, downsample: int) -> None:
    model, images = build(channels, downsample=downsample), images_of(channels)
    output = model(images)
    grid = (32 // downsample, 48 // downsample)
    assert model.grid(32, 48) == grid
    assert output.recon.shape == images.shape
    assert output.codes.shape == (3, *grid)
    assert {values.shape for values in output.losses.values()} == {(3,)}
    codes = model.encode(images)
    assert (codes.dtype, codes.shape) == (torch.int64, (3, *grid))
    recon = model.decode(codes)
    assert recon.shape == images.shape
    assert recon.min() >= 0
    assert recon.max() <= 1
    assert torch.equal(model.reconstruct(images), recon)


def test_the_forward_of_eval_mode_agrees_with_encode_and_decode() -> None:
    model, images = build(), images_of()
    model(images)
    output = model.eval()(images)
    assert torch.equal(output.codes, model.encode(images))
    torch.testing.assert_close(output.recon.clamp(0, 1), model.reconstruct(images))


def test_every_parameter_gets_a_gradient() -> None:
    model = build(codebook="grad", residual_layers=3, l1_weight=1.0, ssim_weight=1.0)
    model(images_of()).losses["loss"].mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_units_of_leaky_relu_keep_learning_where_those_of_relu_stop() -> None:
    for activation, learns in (("relu", False), ("leaky_relu", True)):
        model = build(activation=activation, residual_layers=1)
        inner = model.encoder.residuals[0].spread
        with torch.no_grad():
            inner.bias.fill_(-1e3)
        model(images_of()).loss.backward()
        assert bool(inner.weight.grad.any()) == learns, activation


def test_leaky_relu_has_slope_a_tenth() -> None:
    model = build(activation="leaky_relu", residual_layers=1)
    block, features = model.decoder.residuals[0], torch.randn(2, 16, 3, 3)
    inner = F.leaky_relu(block.spread(F.leaky_relu(features, 0.1)), 0.1)
    torch.testing.assert_close(block(features), features + block.gather(inner))


def test_losses_follow_their_formulas() -> None:
    model, images = build(l1_weight=0.5, ssim_weight=2.0, data_variance=0.04, restart=False), images_of()
    output = model(images)
    losses = output.losses
    torch.testing.assert_close(losses["recon_loss"], ((output.recon - images) ** 2).mean((1, 2, 3)) / 0.04)
    torch.testing.assert_close(losses["l1"], (output.recon - images).abs().mean((1, 2, 3)))
    torch.testing.assert_close(losses["dissimilarity"], 1 - ssim_map(images, output.recon).mean((1, 2, 3)))
    total = losses["recon_loss"] + losses["codebook_loss"] + 0.5 * losses["l1"] + 2.0 * losses["dissimilarity"]
    torch.testing.assert_close(losses["loss"], total)


def test_the_loss_of_a_batch_is_the_mean_over_its_samples() -> None:
    output = build(l1_weight=0.5)(images_of())
    torch.testing.assert_close(output.loss, output.losses["loss"].mean())
    output.loss.backward()


def test_losses_of_weight_0_are_not_computed() -> None:
    assert set(build()(images_of()).losses) == {"loss", "recon_loss", "codebook_loss"}


def test_samples_of_a_batch_are_independent() -> None:
    model, images = build(), images_of()
    model(images)
    model.eval()
    together = model(images).losses["loss"]
    torch.testing.assert_close(together, torch.cat([model(image[None]).losses["loss"] for image in images]))


def test_the_config_builds_the_same_model() -> None:
    model = build(3, downsample=16, codebook="grad", restart_every=7, data_variance=0.02, residual_layers=1)
    twin = VQVAE(**model.config)
    assert twin.config == model.config
    assert {k: v.shape for k, v in twin.state_dict().items()} == {k: v.shape for k, v in model.state_dict().items()}


@pytest.mark.parametrize("codebook", ["ema", "grad"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_it_overfits_a_batch(codebook: str, precision: str) -> None:
    model = build(codebook=codebook, ema_decay=0.9, restart_every=10).to(memory_format=torch.channels_last)
    optimizer, images = torch.optim.Adam(model.parameters(), 5e-3), images_of(size=(16, 16))
    history = []
    for _ in range(160):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            output = model(images)
        optimizer.zero_grad()
        output.losses["loss"].mean().backward()
        optimizer.step()
        history.append(output.losses["recon_loss"].mean().item())
    assert history[-1] < 0.1 * history[0]
    assert history[-1] < 0.1
    assert len(output.codes.unique()) > 8


def test_images_of_a_wrong_size_dtype_or_range_are_refused() -> None:
    model = build(downsample=8)
    with pytest.raises(UserError, match="found 36 x 48; expected multiples of the downsampling 8"):
        model.encode(torch.zeros(1, 1, 36, 48))
    with pytest.raises(UserError, match=r"found shape \(1, 3, 32, 32\); expected \(B, 1, H, W\)"):
        model.encode(torch.zeros(1, 3, 32, 32))
    for call in (model.encode, model.reconstruct):
        with pytest.raises(UserError, match=r"images: found torch\.uint8; expected float values in \[0, 1\]"):
            call(torch.ones(1, 1, 32, 32, dtype=torch.uint8))
    with pytest.raises(UserError, match=r"images: found values from 0 to 255; expected values in \[0, 1\]"):
        model.reconstruct(torch.tensor([0.0, 255.0]).expand(1, 1, 32, 2).repeat(1, 1, 1, 16))


def test_all_invalid_arguments_are_reported_together() -> None:
    ranges = {"data_variance": math.nan, "l1_weight": -1.0, "hidden": 1, "patch": 3, "fine_layers": -1}
    with pytest.raises(ConfigError) as caught:
        VQVAE(0, downsample=5, codebook="best", ema_decay=1.0, **ranges)
    named = {problem.where for problem in caught.value.problems}
    expected = {
        "channels",
        "downsample",
        "codebook",
        "ema_decay",
        "data_variance",
        "l1_weight",
        "hidden",
        "patch",
        "fine_layers",
    }
    assert named == {f"model.{key}" for key in expected}


def test_fine_layers_need_a_resolution_finer_than_the_grid() -> None:
    with pytest.raises(ConfigError, match=r"model\.fine_layers: found 1, with patches of 4 pixels"):
        build(downsample=4, patch=4, fine_layers=1)
