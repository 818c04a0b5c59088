"""Arguments of the models that have a wrong shape, dtype or range are refused with what to pass instead."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from vqdist import VQVAE, PixelCNN, VectorQuantizer
from vqdist.foundation.errors import UserError

SMALL = {"hidden": 8, "residual_hidden": 4, "code_dim": 4, "num_codes": 8, "downsample": 4}
IMAGES = (
    (torch.zeros(1, 32, 32), r"images: found shape \(1, 32, 32\); expected \(B, 1, H, W\)"),
    (torch.zeros(2, 32, 32, 1), r"images: found shape \(2, 32, 32, 1\); expected \(B, 1, H, W\)"),
    (torch.zeros(2, 3, 32, 32), r"images: found shape \(2, 3, 32, 32\); expected \(B, 1, H, W\)"),
    (torch.zeros(2, 1, 30, 32), "image size: found 30 x 32; expected multiples of the downsampling 4"),
    (torch.zeros(2, 1, 32, 32, dtype=torch.uint8), r"images: found torch\.uint8; expected float values in \[0, 1\]"),
    (torch.zeros(2, 1, 32, 32, dtype=torch.float64), r"images: found torch\.float64; expected torch\.float32"),
    (torch.full((2, 1, 32, 32), 200.0), r"images: found values from 200 to 200; expected values in \[0, 1\]: g"),
    (torch.full((2, 1, 32, 32), -1.0), r"images: found values from -1 to -1; expected values in \[0, 1\]"),
    (np.zeros((2, 1, 32, 32), np.float32), r"images: found ndarray; expected a float tensor \(B, 1, H, W\)"),
)
CODES = (
    (torch.zeros(4, 4, dtype=torch.int64), r"codes: found shape \(4, 4\); expected \(B, h, w\)"),
    (torch.zeros(1, 4, 4), r"codes: found torch\.float32; expected torch\.int64"),
    (torch.full((1, 4, 4), 8), r"codes: found 8; expected numbers in \[0, 8\)"),
    (torch.full((1, 4, 4), -1), r"codes: found -1; expected numbers in \[0, 8\)"),
    (np.zeros((1, 4, 4), np.int64), r"codes: found ndarray; expected an int64 tensor \(B, h, w\)"),
)


@pytest.fixture(scope="module")
def vqvae() -> VQVAE:
    return VQVAE(1, **SMALL)


@pytest.mark.parametrize(("images", "message"), IMAGES)
@pytest.mark.parametrize("name", ["forward", "encode", "reconstruct", "latents"])
def test_images_of_the_vqvae(vqvae: VQVAE, name: str, images: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        getattr(vqvae, name)(images)


@pytest.mark.parametrize(("codes", "message"), CODES)
def test_codes(vqvae: VQVAE, codes: Any, message: str) -> None:
    prior = PixelCNN(8, hidden=4, layers=1)
    calls: tuple[Callable[[Any], Any], ...] = (vqvae.decode, vqvae.quantizer.embed, prior, prior.loss)
    for call in calls:
        with pytest.raises(UserError, match=message):
            call(codes)


@pytest.mark.parametrize(
    ("latents", "message"),
    [
        (torch.zeros(8, 16, 4), r"latents: found shape \(8, 16, 4\); expected \(B, 4, h, w\)"),
        (torch.zeros(8, 5, 4, 4), r"latents: found shape \(8, 5, 4, 4\); expected \(B, 4, h, w\)"),
        (torch.zeros(8, 4, 4, 4, dtype=torch.int64), r"latents: found torch\.int64; expected a float dtype"),
        ([[0.0]], "latents: found list; expected a float tensor"),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_latents(latents: Any, message: str, training: bool) -> None:
    quantizer = VectorQuantizer(8, 4).train(training)
    for call in (quantizer, quantizer.encode):
        with pytest.raises(UserError, match=message):
            call(latents)
    assert not quantizer.initialized


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"grid": 4}, "grid: found 4; expected two whole numbers"),
        ({"grid": (4, 4, 4)}, r"grid: found \(4, 4, 4\); expected two"),
        ({"grid": (4.0, 4.0)}, r"grid: found \(4\.0, 4\.0\); expected two"),
        ({"label": "cells"}, "found 'cells'; expected a whole number"),
        ({"label": torch.zeros(3)}, r"label: found torch\.float32 of shape \(3,\); expected int64 of shape \(2,\)"),
    ],
)
def test_arguments_of_sample(arguments: dict[str, Any], message: str) -> None:
    prior = PixelCNN(8, hidden=4, layers=1, condition="label", num_labels=2)
    with pytest.raises(UserError, match=message):
        prior.sample(2, **{"grid": (4, 4), "label": 0, **arguments})


def test_a_condition_that_is_no_tensor() -> None:
    prior = PixelCNN(8, hidden=4, layers=1, condition="label", num_labels=2)
    with pytest.raises(UserError, match=r"label: found int; expected an int64 tensor of shape \(2,\)"):
        prior(torch.zeros(2, 4, 4, dtype=torch.int64), label=1)  # type: ignore[arg-type]


def test_other_dtypes_fit_converted_models_and_autocast(vqvae: VQVAE) -> None:
    double = VQVAE(1, **SMALL).double()
    assert double.encode(torch.rand(1, 1, 16, 16).double()).shape == (1, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert vqvae(torch.rand(1, 1, 16, 16).bfloat16()).codes.shape == (1, 4, 4)


def test_checks_are_traced_without_a_break_of_the_graph() -> None:
    vqvae, prior = VQVAE(1, **SMALL, deferred=True), PixelCNN(8, hidden=4, layers=1)
    images, codes = torch.rand(2, 1, 16, 16), torch.zeros(2, 4, 4, dtype=torch.int64)
    traced = torch.compile(vqvae.eval(), backend="eager", fullgraph=True)
    assert torch.equal(traced(images).codes, vqvae(images).codes)
    torch.testing.assert_close(torch.compile(prior, backend="eager", fullgraph=True)(codes), prior(codes))
