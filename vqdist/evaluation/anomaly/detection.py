"""Metrics of anomaly maps against masks of lesions, inside the brain, beside baselines computed in the same run."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vqdist.evaluation.anomaly.training_deviation import TrainingDeviation
from vqdist.foundation.seeds import derive_seed
from vqdist.inference.anomaly.maps import compute_score, enlarge, relate_to_brain
from vqdist.inference.anomaly.method import ScoringMethod
from vqdist.inference.anomaly.restoration import SliceParts
from vqdist.metrics.detection import (
    Curve,
    Detection,
    build_curve,
    detection_intervals,
    measure_detection,
    measure_dice,
)
from vqdist.metrics.smoothing import smooth

OURS = "map"
LIMIT_PERCENTILE = 98.0  # of the pixels of healthy slices; brighter pixels are marked (Marimont and Tarroni 2020)
PIXELS_PER_HEALTHY_SLICE = 2000
BLUR = 2 / 256  # of the blurred baselines, as a share of the side of the image
SIZES = ((0, "small"), (100 / 256**2, "medium"), (400 / 256**2, "large"))  # least share of the image

Floats = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class SlicePixels:
    """A scored slice with its truth.

    Attributes:
        groups: what the slice is reported with, for example {"kind": "ring", "size": "small"}.
        truth: (n,) of the pixels inside the brain.
        values: (n,) by method.
        scores: of the whole slice, by method.
    """

    subject: str
    groups: dict[str, str]
    truth: Flags
    values: dict[str, Floats]
    scores: dict[str, float]


@dataclass
class DetectionRecord:
    """Collects slices and healthy slices, and computes the metrics.

    Attributes:
        deviation: None if the training images are unknown.
    """

    method: ScoringMethod
    deviation: TrainingDeviation | None
    slices: list[SlicePixels] = field(default_factory=list)
    healthy: list[SlicePixels] = field(default_factory=list)

    def add(
        self,
        parts: SliceParts,
        excess: Tensor,
        truth: Tensor,
        *,
        score: float,
        subject: str,
        number: int | None,
        kind: str | None = None,
    ) -> None:
        """Add a scored slice.

        Args:
            excess: (S, S); the map is this in proportion to the brain.
            truth: (S, S) bool.
            score: of the slice.
            kind: of the lesion, if known.
        """
        maps = self._compute_maps(parts, excess, number)
        inside = truth[parts.brain].numpy()
        groups = {} if not inside.any() else {"size": name_size(int(inside.sum()) / truth.numel())}
        if kind is not None and inside.any():
            groups["kind"] = kind
        values = {name: values[parts.brain].numpy() for name, values in maps.items()}
        scores = self._compute_scores(maps, parts.brain) | {OURS: score}
        self.slices.append(SlicePixels(subject, groups, inside, values, scores))

    def add_healthy(self, parts: SliceParts, excess: Tensor, *, score: float, subject: str, number: int | None) -> None:
        """Add a healthy slice, for the limits and, if no scored slice is healthy, for the metrics of whole slices."""
        maps = self._compute_maps(parts, excess, number)
        scores = self._compute_scores(maps, parts.brain) | {OURS: score}
        inside = parts.brain.nonzero()
        seed = derive_seed(0, "healthy pixels", len(self.healthy))
        chosen = torch.randperm(len(inside), generator=torch.Generator().manual_seed(seed))[:PIXELS_PER_HEALTHY_SLICE]
        rows, columns = inside[chosen].unbind(dim=1)
        values = {name: values[rows, columns].numpy() for name, values in maps.items()}
        self.healthy.append(SlicePixels(subject, {}, np.zeros(len(chosen), np.bool_), values, scores))

    def _compute_maps(self, parts: SliceParts, excess: Tensor, number: int | None) -> dict[str, Tensor]:
        """Return the map of each method, (S, S)."""
        sigma = BLUR * excess.shape[-1]
        error = (parts.image - parts.recon).abs().mean(dim=0)
        ours = relate_to_brain(excess, parts.brain, self.method)
        maps = {OURS: ours, "reconstruction_error": error, "reconstruction_error_blurred": smooth(error, sigma)}
        if self.deviation is not None:
            deviation = self.deviation.measure(parts.image, number)
            maps |= {"deviation": deviation, "deviation_blurred": smooth(deviation, sigma)}
        return maps | {"bits": enlarge(parts.bits, excess.shape[-1])}

    def _compute_scores(self, maps: dict[str, Tensor], brain: Tensor) -> dict[str, float]:
        """Return the score of the whole slice by each method."""
        return {name: compute_score(values, brain, self.method) for name, values in maps.items()}

    def report(self) -> dict[str, Any]:
        """Return the metrics as JSON values: those of the maps, their intervals, the baselines, and per group."""
        names = list(self.slices[0].values)
        figures = {name: self._measure(self.slices, name) for name in names}
        report: dict[str, Any] = dict(figures.pop(OURS))
        report["intervals"] = self._intervals()
        report["baselines"] = figures
        healthy_scored = any(not found.truth.any() for found in self.slices)
        report["image_negatives"] = "scored" if healthy_scored else "healthy" if self.healthy else None
        report["lesion_slices"] = sum(bool(found.truth.any()) for found in self.slices)
        report["prevalence"] = _share(self.slices)
        for group in ("kind", "size"):
            report[f"per_{group}"] = self._measure_groups(group, names)
        return report

    def _measure_groups(self, group: str, names: Sequence[str]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for value in sorted({pixels.groups[group] for pixels in self.slices if group in pixels.groups}):
            chosen = [pixels for pixels in self.slices if pixels.groups.get(group) == value]
            figures = {name: self._measure(chosen, name) for name in names}
            found[value] = {"slices": len(chosen), "prevalence": _share(chosen)} | figures.pop(OURS)
            found[value]["baselines"] = figures
        return found

    def _measure(self, slices: Sequence[SlicePixels], name: str) -> dict[str, float | None]:
        """Return the figures of a method on some slices; None where they are not defined."""
        values, truth = _pool(slices, lambda found: found.values[name])
        pixels = measure_detection(build_curve(values, truth))
        scores, lesions, _ = self._image_scores(slices, name)
        image = measure_detection(build_curve(scores, lesions))
        limit = self.limit(name)
        figures = {
            "pixel_ap": float(pixels.ap),
            "pixel_auroc": float(pixels.auroc),
            "best_dice": float(pixels.best_dice),
            "dice_at_healthy_limit": math.nan if limit is None else measure_dice(values, truth, limit),
            "image_auroc": float(image.auroc),
        }
        return {key: None if math.isnan(value) else value for key, value in figures.items()}

    def _image_scores(self, slices: Sequence[SlicePixels], name: str) -> tuple[Floats, Flags, list[str]]:
        """Return score, truth and subject of slices: some, and as negatives all scored ones without a lesion.

        If there are none, the healthy slices are the negatives.
        """
        positives = [found for found in slices if found.truth.any()]
        negatives = [found for found in self.slices if not found.truth.any()] or self.healthy
        everything = [*positives, *negatives]
        scores = np.array([found.scores[name] for found in everything], np.float32)
        return scores, np.arange(len(everything)) < len(positives), [found.subject for found in everything]

    def limit(self, name: str) -> float | None:
        """Return the percentile LIMIT_PERCENTILE of the pixels of the healthy slices; None without."""
        if not self.healthy:
            return None
        return float(np.percentile(np.concatenate([found.values[name] for found in self.healthy]), LIMIT_PERCENTILE))

    def _intervals(self) -> dict[str, dict[str, float] | None]:
        values, truth = _pool(self.slices, lambda found: found.values[OURS])
        subjects = np.repeat([found.subject for found in self.slices], [len(found.truth) for found in self.slices])
        pixels = detection_intervals(values, truth, subjects)
        scores, lesions, names = self._image_scores(self.slices, OURS)
        image = detection_intervals(scores, lesions, names)
        found = {
            "pixel_ap": pixels["ap"],
            "pixel_auroc": pixels["auroc"],
            "best_dice": pixels["best_dice"],
            "image_auroc": image["auroc"],
        }
        return {
            name: None if ends.low is None or ends.high is None else {"low": ends.low, "high": ends.high}
            for name, ends in found.items()
        }

    def curves(self) -> dict[str, tuple[Curve, Detection]]:
        """Return the pixel curve and figures of each method."""
        names = list(self.slices[0].values)
        curves = {
            name: build_curve(*_pool(self.slices, lambda found, name=name: found.values[name]))  # type: ignore[misc]
            for name in names
        }
        return {name: (curve, measure_detection(curve)) for name, curve in curves.items()}


def _pool(slices: Sequence[SlicePixels], values_of: Callable[[SlicePixels], Floats]) -> tuple[Floats, Flags]:
    return np.concatenate([values_of(found) for found in slices]), np.concatenate([found.truth for found in slices])


def _share(slices: Sequence[SlicePixels]) -> float:
    pixels = sum(len(found.truth) for found in slices)
    return sum(int(found.truth.sum()) for found in slices) / pixels if pixels else 0.0


def name_size(share: float) -> str:
    """Return the size class of a lesion from its share of the image."""
    return next(name for least, name in reversed(SIZES) if share >= least)
