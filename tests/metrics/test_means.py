"""Means equal the mean over all samples, for any division among ranks."""

import math

import pytest
import torch

from vqdist.metrics.images import compute_image_metrics
from vqdist.metrics.means import Means


def test_means_are_exact_over_ragged_shares() -> None:
    values = torch.rand(101, generator=torch.Generator().manual_seed(0)) * 1e4
    total = Means()
    for share in values.split([1, 64, 0, 36]):
        rank = Means()
        rank.add({"loss": share})
        total.merge(rank.sums)
    total.merge(Means().sums)
    assert total.compute()["loss"] == pytest.approx(values.double().mean().item(), rel=1e-14)


def test_means_do_not_hide_a_loss_that_is_nan() -> None:
    means = Means()
    means.add({"loss": torch.tensor([1.0, math.nan]), "empty": torch.tensor([])})
    assert math.isnan(means.compute()["loss"])
    assert "empty" not in means.compute()


def test_means_skip_slices_without_brain() -> None:
    means = Means()
    means.add({"ssim_brain": torch.tensor([1.0, math.nan, 3.0])})
    means.add({"ssim_brain": torch.tensor([math.nan])})
    assert means.sums == {"ssim_brain": (4.0, 2.0)}
    assert means.compute() == {"ssim_brain": 2.0}


def test_means_do_not_hide_a_reconstruction_that_is_nan() -> None:
    means = Means()
    means.add({"ssim": torch.tensor([0.5, math.nan]), "ssim_brain": torch.tensor([0.4, math.nan])})
    assert math.isnan(means.compute()["ssim_brain"])
    without_brain = Means()
    without_brain.add({"ssim": torch.tensor([0.5, 1.0]), "ssim_brain": torch.tensor([0.4, math.nan])})
    assert without_brain.compute()["ssim_brain"] == pytest.approx(0.4)


def test_a_pixel_that_is_nan_reaches_every_metric() -> None:
    images = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0)) + 0.01
    images[:, :, :4] = 0  # background
    recon = images.clone()
    recon[1, 0, 0, 0] = math.nan
    values = compute_image_metrics(images, recon)
    assert all(value[0].isfinite() and value[1].isnan() for value in values.values())
