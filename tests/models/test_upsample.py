"""The decoder's upsampling against the transposed convolution of torch: values and gradients."""

import pytest
import torch
from torch import nn

from vqdist.models.upsample import Upsample


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("channels", [1, 3, 12])
def test_it_is_the_transposed_convolution(channels: int, memory_format: torch.memory_format) -> None:
    torch.manual_seed(0)
    ours = Upsample(6, channels).double().to(memory_format=memory_format)
    plain = nn.ConvTranspose2d(6, channels, 4, stride=2, padding=1).double()
    plain.load_state_dict(ours.state_dict())
    features = torch.randn(2, 6, 5, 7).double().to(memory_format=memory_format).requires_grad_()
    upstream = torch.randn(2, channels, 10, 14).double()
    torch.testing.assert_close(ours(features), plain(features))
    found = torch.autograd.grad(ours(features), [features, *ours.parameters()], upstream)
    expected = torch.autograd.grad(plain(features), [features, *plain.parameters()], upstream)
    for gradient, by_torch in zip(found, expected, strict=True):
        torch.testing.assert_close(gradient, by_torch)


@pytest.mark.parametrize("channels", [1, 12])
def test_autocast_reaches_it(channels: int) -> None:
    torch.manual_seed(0)
    layer, features = Upsample(16, channels), torch.randn(2, 16, 8, 8, requires_grad=True)
    whole = layer(features)
    with torch.autocast("cpu", torch.bfloat16):
        low = layer(features)
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), whole, rtol=0.05, atol=0.05)
    low.float().sum().backward()
    assert {parameter.grad.dtype for parameter in layer.parameters()} == {torch.float32}
    assert features.grad.dtype == torch.float32


def test_only_wanted_gradients_are_made() -> None:
    layer = Upsample(4, 2)
    layer.weight.requires_grad_(False)
    layer(torch.randn(1, 4, 3, 3)).sum().backward()
    assert layer.weight.grad is None
    assert layer.bias.grad is not None
