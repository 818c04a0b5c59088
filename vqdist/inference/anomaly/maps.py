"""Anomaly maps and scores from the signals of a slice and the healthy reference."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from vqdist.inference.anomaly.method import ScoringMethod
from vqdist.inference.anomaly.reference import PlaceStatistics
from vqdist.inference.anomaly.signals import Signals
from vqdist.metrics.smoothing import smooth


def compute_excess(signals: Signals, brain: Tensor, usual: PlaceStatistics, method: ScoringMethod) -> Tensor:
    """Return how far each pixel exceeds what is usual, in healthy standard deviations, at least 0: (S, S).

    All signals but the bits add up, and count more where the codes cost more bits than usual. The sum is
    smoothed.

    Args:
        brain: (S, S) bool; the result is 0 outside.
    """
    floors = (
        method.distance_floor,
        method.deviation_floor,
        method.outside_floor,
        method.residual_floor,
        method.bits_floor,
    )
    unusual = Signals(
        *(
            ((value.float() - mean) / (std + floor)).clamp(min=0)
            for value, mean, std, floor in zip(signals, usual.mean, usual.std, floors, strict=True)
        )
    )
    total = unusual.distance + method.deviation_weight * unusual.deviation
    total = total + method.outside_weight * unusual.outside + method.residual_weight * unusual.residual
    raised = total * (1 + method.bits_weight * unusual.bits)
    return torch.where(brain, smooth(raised, method.map_blur * brain.shape[-1]), 0.0)


def to_map(excess: Tensor, method: ScoringMethod) -> Tensor:
    """Return the anomaly map in [0, 1]: 1 - exp(-excess / map_scale), which keeps the order of the pixels."""
    return -torch.expm1(-excess / method.map_scale)


def compute_score(values: Tensor, brain: Tensor, method: ScoringMethod) -> float:
    """Return the mean of values (S, S) over the share `top_share` of the brain where they are highest; 0 without."""
    inside = values[brain]
    if not len(inside):
        return 0.0
    return float(inside.topk(max(1, math.ceil(method.top_share * len(inside)))).values.double().mean())


def enlarge(places: Tensor, side: int) -> Tensor:
    """Return values of the places of a code map, (h, w), as an image (side, side), interpolated bilinearly."""
    return F.interpolate(places[None, None].float(), (side, side), mode="bilinear")[0, 0]
