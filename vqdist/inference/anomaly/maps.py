"""Anomaly maps and scores from the parts of a slice and the healthy reference."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from vqdist.inference.anomaly.method import ScoringMethod
from vqdist.inference.anomaly.reference import HealthySlice, PlaceStatistics
from vqdist.inference.anomaly.restoration import SliceParts


def compute_excess(parts: SliceParts | HealthySlice, usual: PlaceStatistics | None, method: ScoringMethod) -> Tensor:
    """Return how far each pixel exceeds what is usual, in healthy standard deviations, at least 0: (S, S).

    The residual counts more where the codes cost more bits than usual.

    Args:
        usual: None without healthy slices: the residuals are compared with `residual_floor` only.
    """
    residual, bits = parts.residual.float(), parts.bits
    if usual is not None:
        residual, bits = residual - usual.residual_mean, bits - usual.bits_mean
    residual_std = method.residual_floor + (0 if usual is None else usual.residual_std)
    bits_std = method.bits_floor + (0 if usual is None else usual.bits_std)
    unlikely = enlarge((bits / bits_std).clamp(min=0), residual.shape[-1])
    excess = (residual / residual_std).clamp(min=0) * (1 + method.bits_weight * unlikely)
    return torch.where(parts.brain, excess, 0.0)


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
