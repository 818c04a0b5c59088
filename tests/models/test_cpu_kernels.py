"""Each CPU kernel against its plain form: values, gradients, dtypes under autocast."""

import pytest
import torch
from torch import Tensor

from vqdist.models.cpu_kernels import CodeSearch, CPUCodeSearch, conv_transpose, plain_conv_transpose


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
