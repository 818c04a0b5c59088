"""Each CPU kernel against its plain form: values, gradients, dtypes under autocast."""

import pytest
import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from vqdist.foundation.errors import DataError
from vqdist.models.cpu_kernels import (
    CodeSearch,
    CPUCodeSearch,
    conv_transpose,
    dissimilarity,
    plain_conv_transpose,
    plain_dissimilarity,
)

SSIM_SHAPES = [(2, 1, 16, 20), (3, 3, 11, 12), (1, 1, 32, 11)]


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("num_codes", [1, 33, 127, 128, 200])
@pytest.mark.parametrize("num_latents", [1, 48, 501])  # a multiple of 16 is searched by a convolution
def test_the_code_search_finds_the_plain_codes(num_latents: int, num_codes: int, dtype: torch.dtype) -> None:
    latents, codebook = randn(num_latents, 12, dtype=dtype), randn(num_codes, 12, seed=1, dtype=dtype)
    assert torch.equal(CPUCodeSearch(codebook)(latents), CodeSearch(codebook)(latents))


@pytest.mark.parametrize("search", [CodeSearch, CPUCodeSearch])
@pytest.mark.parametrize("repeats", [20, 50])
def test_ties_take_the_lower_index(search: type[CodeSearch], repeats: int) -> None:
    codebook = torch.tensor([[5.0, 5.0], [1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]]).repeat(repeats, 1)
    latents = torch.tensor([[2.0, 0.0], [0.0, 0.0], [-1.0, 3.0]])
    assert search(codebook)(latents).tolist() == [1, 1, 2]
    assert search(codebook)(latents.repeat(16, 1)).tolist() == [1, 1, 2] * 16


def build_conv_transpose_inputs(
    channels: int, *, dtype: torch.dtype = torch.float64, memory_format: torch.memory_format = torch.contiguous_format
) -> list[Tensor]:
    features = randn(2, 6, 5, 7, dtype=dtype).to(memory_format=memory_format)
    weight = randn(6, channels, 4, 4, seed=1, dtype=dtype).to(memory_format=memory_format)
    return [tensor.requires_grad_() for tensor in (features, weight, randn(channels, seed=2, dtype=dtype))]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("channels", [1, 3, 12])
def test_conv_transpose_has_plain_values_and_gradients(channels: int, memory_format: torch.memory_format) -> None:
    inputs = build_conv_transpose_inputs(channels, memory_format=memory_format)
    found, expected = conv_transpose(*inputs), plain_conv_transpose(*inputs)
    torch.testing.assert_close(found, expected)
    upstream = randn(*expected.shape, seed=3, dtype=torch.float64)
    gradients = [torch.autograd.grad(result, inputs, upstream) for result in (found, expected)]
    for gradient, plain in zip(*gradients, strict=True):
        torch.testing.assert_close(gradient, plain)


@pytest.mark.parametrize("channels", [1, 12])
def test_conv_transpose_follows_autocast(channels: int) -> None:
    inputs = build_conv_transpose_inputs(channels, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        low = conv_transpose(*inputs)
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), conv_transpose(*inputs), rtol=0.05, atol=0.1)
    low.float().sum().backward()
    assert {tensor.grad.dtype for tensor in inputs} == {torch.float32}


def test_conv_transpose_computes_only_the_required_gradients() -> None:
    features, weight, bias = build_conv_transpose_inputs(2)
    weight.requires_grad_(False)
    conv_transpose(features, weight, bias).sum().backward()
    assert weight.grad is None
    assert bias.grad is not None


def build_images(shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    images = torch.rand(shape, dtype=dtype, generator=torch.Generator().manual_seed(0))
    return images, images + 0.3 * randn(*shape, seed=1, dtype=dtype)


@pytest.mark.parametrize("shape", SSIM_SHAPES)
def test_dissimilarity_has_plain_values_and_gradients(shape: tuple[int, ...]) -> None:
    images, recon = build_images(shape)
    weights = torch.arange(1.0, shape[0] + 1, dtype=torch.float64)
    recon.requires_grad_()
    found, expected = dissimilarity(images, recon), plain_dissimilarity(images, recon)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad((values * weights).sum(), recon)[0] for values in (found, expected)]
    torch.testing.assert_close(*gradients)


def test_the_gradient_of_dissimilarity_is_that_of_finite_differences() -> None:
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


def test_dissimilarity_is_fp32_under_autocast() -> None:
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


@pytest.mark.parametrize("form", [dissimilarity, plain_dissimilarity])
def test_images_smaller_than_the_window_are_refused(form) -> None:
    with pytest.raises(DataError, match="found 10 x 16; expected at least 11"):
        form(*build_images((1, 1, 10, 16)))
