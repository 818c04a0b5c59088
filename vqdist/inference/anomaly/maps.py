"""Anomaly maps and scores from the parts of a slice and the healthy reference."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from vqdist.inference.anomaly.method import ScoringMethod
from vqdist.inference.anomaly.reference import HealthySlice, PlaceStatistics
from vqdist.inference.anomaly.restoration import SliceParts


def compute_excess(parts: SliceParts | HealthySlice, usual: PlaceStatistics, method: ScoringMethod) -> Tensor:
    """Return how far each pixel exceeds what is usual, in healthy standard deviations, at least 0: (S, S).

    Residual and deviation add up, and count more where the codes cost more bits than usual.
    """
    residual = _standardise(parts.residual, usual.residual_mean, usual.residual_std + method.residual_floor)
    deviation = _standardise(parts.deviation, usual.deviation_mean, usual.deviation_std + method.deviation_floor)
    unlikely = _standardise(parts.bits, usual.bits_mean, usual.bits_std + method.bits_floor)
    raised = 1 + method.bits_weight * enlarge(unlikely, residual.shape[-1])
    return torch.where(parts.brain, (residual + method.deviation_weight * deviation) * raised, 0.0)


def _standardise(values: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    return ((values.float() - mean) / std).clamp(min=0)


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
