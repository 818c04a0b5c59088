"""The micro-batch that a model is trained on or evaluated with."""

from dataclasses import dataclass, field, replace
from typing import NamedTuple, Self

import torch

from vqdist.models.map_conditions import MapConditions

NO_NUMBER = -1


class SampleInfo(NamedTuple):
    """Key, label and slice number of a sample; NO_NUMBER where it has no label or slice number.

    Attributes:
        attributes: number or index of the category of each attribute of the dataset; NaN where it is unknown.
    """

    key: str
    label: int
    slice: int
    attributes: tuple[float, ...] = ()


@dataclass(frozen=True)
class Batch:
    """A micro-batch of B samples.

    Damaged samples are left out (data.on_error skip). A micro-batch of which every sample is damaged has a single
    blank sample: values 0, weight 0 and no key. It lets its rank take part in the step's collectives.

    Attributes:
        step: the step it belongs to, from 1; 0 outside training.
        last: whether it is the last micro-batch of this rank in the step.
        values: (B, C, H, W) uint8 images or (B, h, w) int64 codes.
        conditions: label and slice number of each sample, NO_NUMBER where it has none; the attributes of the dataset,
            categories as indices of its manifest; for models that read it, the map of the previous slice.
        positions: (B,) int64 position of each sample in the global batch, NO_NUMBER for a blank sample.
        weights: (B,) float32, 1 for a sample of the dataset and 0 for a blank one.
        keys: key of each sample of the dataset.
        skipped: a message for each damaged sample that was left out.
        host_conditions: the conditions before the batch was copied to a device; None for a batch on the CPU.
    """

    step: int
    last: bool
    values: torch.Tensor
    conditions: MapConditions
    positions: torch.Tensor
    weights: torch.Tensor
    keys: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    host_conditions: MapConditions | None = None

    def __len__(self) -> int:
        return len(self.values)

    @property
    def num_samples(self) -> int:
        """Number of samples of the dataset, without blank ones."""
        return len(self.keys)

    @property
    def label(self) -> torch.Tensor:
        """(B,) int64 class of each sample, NO_NUMBER where it has none."""
        assert self.conditions.label is not None
        return self.conditions.label

    @property
    def slice(self) -> torch.Tensor:
        """(B,) int64 slice number of each sample, NO_NUMBER where it has none."""
        assert self.conditions.slice is not None
        return self.conditions.slice

    @property
    def conditions_on_cpu(self) -> MapConditions:
        """The conditions of each sample, which can be checked without waiting for the device."""
        return self.host_conditions or self.conditions

    def tensors(self) -> list[torch.Tensor]:
        """Return all tensors that `to` copies."""
        previous = [] if self.conditions.previous is None else [self.conditions.previous]
        return [self.values, *self.conditions.tensors().values(), *previous, self.positions, self.weights]

    def to(self, device: torch.device) -> Self:
        """Return the batch on a device. Images stay uint8."""
        if device.type == "cpu":
            return self
        return replace(
            self,
            values=self.values.to(device, non_blocking=True),
            conditions=self.conditions.to(device, non_blocking=True),
            positions=self.positions.to(device, non_blocking=True),
            weights=self.weights.to(device, non_blocking=True),
            host_conditions=self.conditions_on_cpu,
        )


def to_images(values: torch.Tensor) -> torch.Tensor:
    """Convert uint8 images to float32 in [0, 1]."""
    return values.float().div_(255)
