"""Anomaly maps and scores from the signals of a slice and the healthy reference."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from vqdist.inference.anomaly.method import ScoringMethod
from vqdist.inference.anomaly.reference import PlaceStatistics
from vqdist.inference.anomaly.reference_comparison import Comparison
from vqdist.inference.anomaly.signals import Signals
from vqdist.metrics.smoothing import smooth


def compute_excess(signals: Signals, brain: Tensor, usual: PlaceStatistics, method: ScoringMethod) -> Tensor:
    """Return how far each pixel exceeds what is usual, in healthy standard deviations, at least 0: (S, S).

    All signals but bits and asymmetry add up. The sum counts more where the codes cost more bits than usual, and more
    or less around a pixel where the slice resembles its mirror image less or more than usual. It is smoothed.

    Args:
        brain: (S, S) bool; the result is 0 outside.
    """
    floors = (
        method.distance_floor,
        method.deviation_floor,
        method.outside_floor,
        method.asymmetry_floor,
        method.residual_floor,
        method.bits_floor,
    )
    standardised = Signals(
        *(
            (value.float() - mean) / (std + floor)
            for value, mean, std, floor in zip(signals, usual.mean, usual.std, floors, strict=True)
        )
    )
    unusual = Signals(*(values.clamp(min=0) for values in standardised))
    total = unusual.distance + method.deviation_weight * unusual.deviation
    total = total + method.outside_weight * unusual.outside + method.residual_weight * unusual.residual
    raised = total * (1 + method.bits_weight * unusual.bits)
    side = brain.shape[-1]
    weight = (1 + method.asymmetry_weight * standardised.asymmetry).clamp(method.least_asymmetry, method.most_asymmetry)
    weight = smooth(torch.where(brain, weight, 1.0), method.asymmetry_blur * side)
    return torch.where(brain, smooth(raised * weight, method.map_blur * side), 0.0)


def score_comparison(comparison: Comparison, brain: Tensor, usual: PlaceStatistics, method: ScoringMethod) -> float:
    """Return the score of a slice: `compute_score` of its map with usual residual and bits.

    In the comparison with reference slices, training slices are like those of new people; in residual and bits they
    are not, because the models know them.
    """
    signals = Signals(*comparison, usual.mean.residual, usual.mean.bits)
    excess = compute_excess(signals, brain, usual, method)
    return compute_score(relate_to_brain(excess, brain, method), brain, method)


def relate_to_brain(excess: Tensor, brain: Tensor, method: ScoringMethod) -> Tensor:
    """Return the excess (S, S) of each pixel in proportion to a quantile over the brain of the slice.

    A person who differs from the healthy ones everywhere, by age or scanner, has a high excess everywhere. In
    proportion, pixels of different people can be compared.
    """
    inside = excess[brain]
    usual = float(inside.quantile(method.relative_quantile)) if len(inside) else 0.0
    return excess / (usual + method.relative_floor)


def to_map(excess: Tensor, brain: Tensor, method: ScoringMethod) -> Tensor:
    """Return the anomaly map (S, S) in [0, 1]: 1 - exp(-x / map_scale) of the proportional excess x."""
    return -torch.expm1(-relate_to_brain(excess, brain, method) / method.map_scale)


def compute_score(values: Tensor, brain: Tensor, method: ScoringMethod) -> float:
    """Return the mean of values (S, S) over the share `top_share` of the brain where they are highest; 0 without."""
    inside = values[brain]
    if not len(inside):
        return 0.0
    return float(inside.topk(max(1, math.ceil(method.top_share * len(inside)))).values.double().mean())


def enlarge(places: Tensor, side: int) -> Tensor:
    """Return values of the places of a code map, (h, w), as an image (side, side), interpolated bilinearly."""
    return F.interpolate(places[None, None].float(), (side, side), mode="bilinear")[0, 0]
