"""Maps and scores from residuals and bits."""

import math

import pytest
import torch

from vqdist.inference.anomaly.maps import compute_excess, compute_score, enlarge, to_map
from vqdist.inference.anomaly.method import ScoringMethod
from vqdist.inference.anomaly.reference import ASSUMED, HealthySlice, PlaceStatistics

METHOD = ScoringMethod(
    residual_floor=0.1, deviation_floor=0.5, bits_floor=1.0, deviation_weight=0.5, bits_weight=0.5, map_scale=5.0,
    top_share=0.1,
)  # fmt: skip


def build_slice(residual: float, deviation: float, bits: float) -> HealthySlice:
    brain = torch.ones(8, 8, dtype=torch.bool)
    brain[0] = False
    maps = (torch.full((8, 8), residual), torch.full((8, 8), deviation), torch.full((2, 2), bits))
    return HealthySlice("a", 0, *maps, brain)


def build_usual() -> PlaceStatistics:
    values = {(8, 8): (0.2, 0.1, 1.0, 0.5), (2, 2): (3.0, 1.0)}
    return PlaceStatistics(*(torch.full(shape, value) for shape, group in values.items() for value in group))


def test_an_excess_counts_healthy_standard_deviations_and_more_where_codes_are_unlikely() -> None:
    def compute(residual: float, deviation: float, bits: float) -> torch.Tensor:
        return compute_excess(build_slice(residual, deviation, bits), build_usual(), METHOD)

    usual = compute(0.6, 3.0, 3.0)
    torch.testing.assert_close(usual[1:], torch.full((7, 8), 0.4 / 0.2 + 0.5 * 2.0 / 1.0))
    assert (usual[0] == 0).all()  # outside the brain
    torch.testing.assert_close(compute(0.6, 3.0, 7.0), usual * (1 + 0.5 * 4 / 2))
    torch.testing.assert_close(compute(0.0, 3.0, 3.0)[1:], torch.full((7, 8), 1.0))  # no compensation below the mean
    assert (compute(0.1, 0.9, 9.0) == 0).all()


def test_without_healthy_slices_the_statistics_are_assumed() -> None:
    found = compute_excess(build_slice(0.29, 0.8, 2.0), ASSUMED, METHOD)
    torch.testing.assert_close(found[1:], torch.full((7, 8), 0.29 / 0.13))


def test_a_map_keeps_the_order_and_is_in_0_to_1() -> None:
    excess = torch.linspace(0, 100, 50)
    found = to_map(excess, METHOD)
    assert (found.diff() >= 0).all()
    assert (found[0], found[-1]) == (0, pytest.approx(1))
    assert float(to_map(torch.tensor(5.0), METHOD)) == pytest.approx(1 - math.exp(-1))


def test_a_score_is_the_mean_of_the_highest_pixels_of_the_brain() -> None:
    values = torch.arange(100.0).view(10, 10)
    brain = torch.ones(10, 10, dtype=torch.bool)
    assert compute_score(values, brain, METHOD) == pytest.approx(sum(range(90, 100)) / 10)
    brain[9] = False
    assert compute_score(values, brain, METHOD) == pytest.approx(sum(range(81, 90)) / 9)
    assert compute_score(values, torch.zeros(10, 10, dtype=torch.bool), METHOD) == 0


def test_places_are_enlarged_in_order() -> None:
    found = enlarge(torch.tensor([[0.0, 1.0], [2.0, 3.0]]), 8)
    assert found.shape == (8, 8)
    assert (found[0, 0], found[0, -1], found[-1, 0], found[-1, -1]) == (0, 1, 2, 3)
