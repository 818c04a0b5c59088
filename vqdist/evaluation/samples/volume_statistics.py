"""Statistics of whole volumes: how similar neighbouring slices are, and how the ventricles change along z."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vqdist.evaluation.samples.features import Scaling, energy_distance
from vqdist.evaluation.samples.slice_statistics import SliceStatistics, find_fluid
from vqdist.metrics.images import brain_mask, masked_mean, ssim_map

END_SLICES = 8  # the first and the last slices of a volume, for the drift

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class VolumeStatistics:
    """Statistics of the pairs of neighbouring slices of volumes.

    Attributes:
        ssim: (P,) SSIM of each pair.
        agreement: (P,) share of the places with the same code; empty without codes.
        difference: (P,) mean absolute difference of the grey values inside the brain of both.
        flips: (V,) share of the ventricle pixels of a volume that a slice alone has, or lacks, between two slices that
            agree.
    """

    ssim: Values
    agreement: Values
    difference: Values
    flips: Values

    @classmethod
    def measure(cls, images: Tensor, codes: Tensor | None) -> Self:
        """Compute the statistics of one volume.

        Args:
            images: (S, C, H, W) in [0, 1], neighbouring slices in order.
            codes: (S, h, w).
        """
        before, after = images[:-1], images[1:]
        both = brain_mask(before) & brain_mask(after)
        agreement = torch.zeros(0) if codes is None else (codes[:-1] == codes[1:]).flatten(1).double().mean(dim=1)
        columns = (
            ssim_map(before, after).mean(dim=(1, 2, 3)),
            agreement,
            masked_mean((before - after).abs(), both),
            torch.tensor([measure_flips(find_fluid(images.mean(dim=1))[2])]),
        )
        return cls(*(column.cpu().double().numpy() for column in columns))

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """Return the statistics of all volumes, in order."""
        names = [field.name for field in fields(cls)]
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})

    def describe(self) -> dict[str, Any]:
        """Return mean and spread (standard deviation) of each statistic as JSON values."""
        columns = {field.name: getattr(self, field.name) for field in fields(self)}
        return {"volumes": len(self.flips)} | {
            name: None
            if np.isnan(values).all()  # also without values
            else {"mean": float(np.nanmean(values)), "spread": float(np.nanstd(values))}
            for name, values in columns.items()
        }


def measure_flips(fluid: Tensor) -> float:
    """Return the share of the ventricle pixels that flip from one slice to the next and back; 0 without ventricles.

    Args:
        fluid: (S, H, W) bool.
    """
    before, here, after = fluid[:-2], fluid[1:-1], fluid[2:]
    flipped = (before == after) & (here != before)
    return float(flipped.sum() / fluid[1:-1].sum().clamp_min(1))


def measure_drift(sets: Mapping[str, SliceStatistics]) -> dict[str, Any]:
    """Return how much farther the last slices of sampled volumes are from real ones than the first slices.

    Args:
        sets: "train", "test" and "samples"; distances are to test, at the same slice numbers.
    """
    scaling = Scaling(sets["train"].features)
    numbers = np.unique(sets["test"].slice_numbers)
    ends = {"first": numbers[:END_SLICES], "last": numbers[-END_SLICES:]}
    report: dict[str, Any] = {"slices": END_SLICES}
    for name in ("samples", "train"):
        distances = {end: _compare(sets[name], sets["test"], chosen, scaling) for end, chosen in ends.items()}
        first, last = distances["first"], distances["last"]
        report[name] = distances | {
            "ratio": last / first if first is not None and last is not None and first > 0 else None
        }
    return report


def _compare(
    found: SliceStatistics, real: SliceStatistics, numbers: npt.NDArray[np.int64], scaling: Scaling
) -> float | None:
    """Return the energy distance of the features at some slice numbers; None with slices of fewer than two subjects."""
    ours, others = (np.isin(statistics.slice_numbers, numbers) for statistics in (found, real))
    distance = energy_distance(
        scaling(found.features[ours]), scaling(real.features[others]), found.subjects[ours], real.subjects[others]
    )
    return None if distance is None else distance.mean
