"""Codebook usage and bits per code against values computed with NumPy."""

import math

import numpy as np
import pytest
import torch

from vqdist.metrics.codes import bits_per_pixel, code_bits, codes_used, count_codes, perplexity


def test_code_usage() -> None:
    counts = count_codes(torch.tensor([[[0, 0], [3, 3]]]), 5) + count_codes(torch.tensor([3, 0]), 5)
    assert counts.tolist() == [3, 0, 0, 3, 0]
    assert perplexity(counts) == pytest.approx(2.0)
    assert codes_used(counts) == 2
    p = np.array([0.7, 0.2, 0.1])
    assert perplexity(torch.tensor([70, 0, 20, 10])) == pytest.approx(np.exp(-(p * np.log(p)).sum()))


def test_bits() -> None:
    logits = torch.randn(2, 7, 3, 4, generator=torch.Generator().manual_seed(0))
    codes = torch.randint(7, (2, 3, 4), generator=torch.Generator().manual_seed(1))
    p = np.exp(logits.double().numpy())
    p /= p.sum(axis=1, keepdims=True)
    picked = np.take_along_axis(p, codes.numpy()[:, None], axis=1)
    np.testing.assert_allclose(code_bits(logits, codes), -np.log2(picked).mean(axis=(1, 2, 3)), rtol=1e-6)
    assert bits_per_pixel(math.log2(512), (32, 32), (256, 256)) == pytest.approx(0.140625)
