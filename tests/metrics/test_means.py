"""Means equal the mean over all samples, for any division among ranks."""

import math

import pytest
import torch

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
