"""Maps and scores from residuals and bits."""

import math
from dataclasses import replace

import pytest
import torch

from vqdist.inference.anomaly.maps import (
    compute_excess,
    compute_score,
    enlarge,
    relate_to_brain,
    score_comparison,
    to_map,
)
from vqdist.inference.anomaly.method import ScoringMethod
from vqdist.inference.anomaly.reference import ASSUMED, PlaceStatistics
from vqdist.inference.anomaly.signals import Signals
from vqdist.metrics.smoothing import smooth

METHOD = ScoringMethod(
    residual_floor=0.1, deviation_floor=0.5, distance_floor=0.1, bits_floor=1.0, deviation_weight=0.5,
    residual_weight=2.0, outside_floor=0.1, outside_weight=3.0,
    bits_weight=0.5, map_blur=0.0, map_scale=5.0, top_share=0.1, asymmetry_floor=0.1, asymmetry_weight=2.0,
    least_asymmetry=0.25,
)  # fmt: skip


BRAIN = torch.ones(8, 8, dtype=torch.bool)
BRAIN[0] = False


def build_signals(
    distance: float, deviation: float, outside: float, residual: float, bits: float, *, asymmetry: float = 0.4
) -> Signals:
    values = (distance, deviation, outside, asymmetry, residual, bits)
    return Signals(*(torch.full((8, 8), value) for value in values))


USUAL = PlaceStatistics(build_signals(0.3, 1.0, 0.0, 0.2, 3.0), build_signals(0.2, 0.5, 0.1, 0.1, 1.0, asymmetry=0.4))


def test_an_excess_counts_healthy_standard_deviations_and_more_where_codes_are_unlikely() -> None:
    def compute(*values: float) -> torch.Tensor:
        return compute_excess(build_signals(*values), BRAIN, USUAL, METHOD)

    unlikely = compute(0.9, 3.0, 0.4, 0.6, 3.0)
    expected = 0.6 / (0.2 + 0.1) + 0.5 * 2.0 / (0.5 + 0.5) + 3.0 * 0.4 / (0.1 + 0.1) + 2.0 * 0.4 / (0.1 + 0.1)
    torch.testing.assert_close(unlikely[1:], torch.full((7, 8), expected))
    assert (unlikely[0] == 0).all()  # outside the brain
    torch.testing.assert_close(compute(0.9, 3.0, 0.4, 0.6, 7.0), unlikely * (1 + 0.5 * 4 / (1.0 + 1.0)))
    torch.testing.assert_close(compute(0.0, 3.0, 0.0, 0.0, 3.0)[1:], torch.full((7, 8), 1.0))  # none below the mean
    assert (compute(0.2, 0.9, 0.0, 0.1, 9.0) == 0).all()


@pytest.mark.parametrize(("asymmetry", "factor"), [(0.4, 1.0), (0.65, 2.0), (0.275, 0.5), (0.0, 0.25), (1.9, 3.0)])
def test_an_excess_counts_more_where_the_slice_differs_from_its_mirror_image(asymmetry: float, factor: float) -> None:
    usual = compute_excess(build_signals(0.9, 3.0, 0.4, 0.6, 3.0), BRAIN, USUAL, METHOD)
    found = compute_excess(build_signals(0.9, 3.0, 0.4, 0.6, 3.0, asymmetry=asymmetry), BRAIN, USUAL, METHOD)
    torch.testing.assert_close(found, factor * usual)


def test_where_the_slice_differs_from_its_mirror_image_is_smoothed_over_a_distance() -> None:
    """A lesion may differ from its mirror image at its edge only; what is outside of the brain counts as usual."""
    method = replace(METHOD, asymmetry_blur=1 / 8)
    asymmetry = torch.full((8, 8), 0.4)
    asymmetry[3, 4] = 0.65  # twice what is usual
    signals = build_signals(0.9, 3.0, 0.4, 0.6, 3.0)
    usual = compute_excess(signals, BRAIN, USUAL, method)
    factors = torch.ones(8, 8)
    factors[3, 4] = 2.0
    expected = torch.where(BRAIN, smooth(factors, 1.0), 0.0)
    torch.testing.assert_close(
        compute_excess(signals._replace(asymmetry=asymmetry), BRAIN, USUAL, method), expected * usual
    )


def test_a_score_is_that_of_the_comparison_in_proportion_to_the_brain() -> None:
    distance = torch.rand(8, 8, generator=torch.Generator().manual_seed(0))
    for signals in (build_signals(0, 0, 0, 0.2, 3.0), build_signals(0, 0, 0, 9.0, 99.0)):
        comparison = signals._replace(distance=distance).comparison
        found = score_comparison(comparison, BRAIN, USUAL, METHOD)
        excess = compute_excess(Signals(*comparison, *build_signals(0, 0, 0, 0.2, 3.0)[4:]), BRAIN, USUAL, METHOD)
        highest = excess[BRAIN].sort().values[-6:].mean()
        assert found == pytest.approx(float(highest / (excess[BRAIN].quantile(0.9) + 0.25)))


def test_a_map_is_smoothed_and_0_outside_the_brain() -> None:
    distance = torch.full((8, 8), 0.3)
    distance[2, 4] = 9.0
    signals = build_signals(0.3, 1.0, 0.0, 0.2, 3.0)._replace(distance=distance)
    sharp = compute_excess(signals, BRAIN, USUAL, METHOD)
    blurred = compute_excess(signals, BRAIN, USUAL, replace(METHOD, map_blur=1 / 8))
    expected = smooth(sharp, 1.0)
    torch.testing.assert_close(blurred[1:], expected[1:])
    assert float(expected[0].max()) > 0.1
    assert (blurred[0] == 0).all()


def test_without_healthy_slices_the_statistics_are_assumed() -> None:
    found = compute_excess(build_signals(0.06, 0.8, 0.0, 0.29, 2.0, asymmetry=0.06), BRAIN, ASSUMED, METHOD)
    torch.testing.assert_close(found[1:], torch.full((7, 8), 2.0 * (0.29 - 0.03) / (0.03 + 0.1)))


def test_a_map_keeps_the_order_and_is_in_0_to_1() -> None:
    excess, brain = torch.linspace(0, 100, 50), torch.ones(50, dtype=torch.bool)
    found = to_map(excess, brain, METHOD)
    assert (found.diff() >= 0).all()
    assert found[0] == 0
    assert float(found[-1]) == pytest.approx(1 - math.exp(-100 / (90 + 0.25) / 5))
    assert (to_map(torch.zeros(50), brain, METHOD) == 0).all()
    assert (to_map(torch.zeros(50), ~brain, METHOD) == 0).all()


def test_a_map_is_in_proportion_to_the_brain_of_the_slice() -> None:
    excess = torch.rand(8, 8, generator=torch.Generator().manual_seed(0)) * BRAIN
    excess[3, 4] = 40.0
    found = relate_to_brain(excess, BRAIN, METHOD)
    torch.testing.assert_close(found, excess / (excess[BRAIN].quantile(0.9) + 0.25))
    everywhere = relate_to_brain(100 * excess, BRAIN, METHOD)
    assert float(everywhere[3, 4] / found[3, 4]) < 1.5  # a person who differs 100 times as much everywhere
    assert float(found[3, 4]) > 10 * float(found[BRAIN].median())


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
