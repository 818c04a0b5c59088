"""Image metrics against torchmetrics, scikit-image and NumPy."""

import math

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    structural_similarity_index_measure,
)

from vqdist.foundation.errors import DataError
from vqdist.metrics import images as metrics
from vqdist.metrics.means import Means


def make_pair(*shape: int, seed: int = 0, noise: float = 0.1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(*shape, generator=generator)
    images[..., :6] = 0
    return images, images + noise * torch.randn(*shape, generator=generator)


@pytest.mark.parametrize("channels", [1, 3])
def test_ssim_equals_torchmetrics(channels: int) -> None:
    images, recon = make_pair(3, channels, 40, 52)
    ours = metrics.compute_image_metrics(images, recon)["ssim"]
    theirs = structural_similarity_index_measure(recon.clamp(0, 1), images, data_range=1.0, reduction="none")
    torch.testing.assert_close(ours.float(), theirs, atol=1e-5, rtol=0)


def test_ssim_map_equals_skimage_inside() -> None:
    images, recon = (part.double() for part in make_pair(1, 1, 33, 47))
    _, expected = structural_similarity(
        images[0, 0].numpy(), recon[0, 0].numpy(), data_range=1.0, full=True,
        gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
    )  # fmt: skip
    ours = metrics.ssim_map(images, recon)[0, 0].numpy()
    np.testing.assert_allclose(ours[5:-5, 5:-5], expected[5:-5, 5:-5], atol=1e-12)


def test_ssim_map_is_differentiable_and_ignores_autocast() -> None:
    images, recon = make_pair(2, 1, 16, 16)
    recon.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = metrics.ssim_map(images, recon)
    assert torch.equal(inside, metrics.ssim_map(images, recon))
    inside.mean().backward()
    assert recon.grad is not None
    assert recon.grad.abs().sum() > 0
    small = torch.rand(1, 1, 11, 12, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(metrics.ssim_map, (torch.rand(1, 1, 11, 12).double(), small))


def test_ms_ssim_is_close_to_torchmetrics() -> None:
    images, recon = make_pair(2, 1, 192, 200)
    recon = recon.clamp(0, 1)
    ours = metrics.ms_ssim(images, recon)
    theirs = multiscale_structural_similarity_index_measure(recon, images, data_range=1.0, reduction="none")
    # torchmetrics leaves out the borders at all scales but the last, so that the two differ a little.
    torch.testing.assert_close(ours, theirs, atol=1e-2, rtol=0)


def test_ms_ssim_of_small_images_uses_fewer_scales() -> None:
    images, recon = make_pair(2, 1, 21, 21)
    torch.testing.assert_close(metrics.ms_ssim(images, recon), metrics.ssim_map(images, recon).mean(dim=(1, 2, 3)))
    assert metrics.ms_ssim(*make_pair(1, 1, 44, 44, noise=0.0)).item() == pytest.approx(1.0)


@pytest.mark.parametrize("channels", [1, 3])
def test_brain_metrics_are_means_over_the_mask(channels: int) -> None:
    images, recon = make_pair(2, channels, 24, 24)
    images[:, 0, :, :12] = 0
    values = metrics.compute_image_metrics(images, recon)
    clipped = recon.clamp(0, 1)
    ssim = metrics.ssim_map(images, clipped).double().numpy()
    for i in range(2):
        mask = (images[i].numpy() > 0).any(axis=0)
        error = ((images[i] - clipped[i]).double().numpy() ** 2)[:, mask].mean()
        assert values["ssim_brain"][i].item() == pytest.approx(ssim[i][:, mask].mean(), abs=1e-6)
        assert values["psnr_brain"][i].item() == pytest.approx(-10 * math.log10(error), abs=1e-4)
        full = ((images[i] - clipped[i]).double() ** 2).mean().item()
        assert values["mse"][i].item() == pytest.approx(full, rel=1e-6)
        assert values["psnr"][i].item() == pytest.approx(-10 * math.log10(full), abs=1e-4)


def test_equal_images_and_a_black_slice() -> None:
    images = torch.stack([make_pair(1, 16, 16)[0], torch.zeros(1, 16, 16)])
    values = metrics.compute_image_metrics(images, images)
    assert values["ssim"].tolist() == pytest.approx([1.0, 1.0])
    assert values["psnr"].tolist() == pytest.approx([100.0, 100.0])
    assert values["ssim_brain"].isnan().tolist() == [False, True]
    means = Means()
    means.add(values)
    assert means.compute()["ssim_brain"] == pytest.approx(1.0)


def test_images_smaller_than_the_window_are_refused() -> None:
    with pytest.raises(DataError, match="10 x 32"):
        metrics.ssim_map(torch.zeros(1, 1, 10, 32), torch.zeros(1, 1, 10, 32))
