"""The SSIM loss against the SSIM map that autograd differentiates, finite differences and torchmetrics."""

import pytest
import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from vqdist.foundation.errors import DataError
from vqdist.metrics.images import ssim_map
from vqdist.models.ssim_loss import dissimilarity

SHAPES = [(2, 1, 16, 20), (3, 3, 11, 12), (1, 1, 32, 11)]


def build_images(shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(shape, dtype=dtype, generator=generator)
    return images, images + 0.3 * torch.randn(shape, dtype=dtype, generator=generator)


@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_gradients_equal_those_of_the_ssim_map(shape: tuple[int, ...]) -> None:
    images, recon = build_images(shape)
    weights = torch.arange(1.0, shape[0] + 1, dtype=torch.float64)
    recon.requires_grad_()
    found, expected = dissimilarity(images, recon), 1 - ssim_map(images, recon).mean((1, 2, 3))
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad((values * weights).sum(), recon)[0] for values in (found, expected)]
    torch.testing.assert_close(*gradients)


def test_the_gradient_equals_finite_differences() -> None:
    images, recon = build_images((1, 1, 11, 12))
    assert torch.autograd.gradcheck(lambda pixels: dissimilarity(images, pixels), recon.requires_grad_())


def test_empty_images_are_similar_and_have_a_finite_gradient() -> None:
    empty = torch.zeros(1, 1, 16, 16)
    recon = empty.clone().requires_grad_()
    found = dissimilarity(empty, recon)
    found.sum().backward()
    assert found.item() == pytest.approx(0, abs=1e-6)
    assert recon.grad is not None
    assert recon.grad.isfinite().all()


def test_the_loss_is_fp32_under_autocast() -> None:
    images, recon = build_images((2, 1, 16, 16), torch.float32)
    expected = structural_similarity_index_measure(recon, images, data_range=1.0, reduction="none")
    half = recon.bfloat16().requires_grad_()
    full, inside = (recon.clone().requires_grad_() for _ in range(2))
    dissimilarity(images, full).sum().backward()
    with torch.autocast("cpu", torch.bfloat16):
        found, of_half = dissimilarity(images, recon), dissimilarity(images, half)
    assert found.dtype == of_half.dtype == torch.float32
    torch.testing.assert_close(1 - found, expected, atol=1e-5, rtol=1e-5)
    of_half.sum().backward()
    with torch.autocast("cpu", torch.bfloat16):
        dissimilarity(images, inside).sum().backward()
    torch.testing.assert_close(inside.grad, full.grad, atol=0, rtol=0)
    assert half.grad is not None
    assert half.grad.dtype == torch.bfloat16


def test_images_smaller_than_the_window_are_refused() -> None:
    with pytest.raises(DataError, match="found 10 x 16; expected at least 11"):
        dissimilarity(*build_images((1, 1, 10, 16)))
