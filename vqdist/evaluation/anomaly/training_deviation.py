"""Deviation of a slice from the training mean at each pixel, a baseline of anomaly maps."""

from typing import Self

import torch
from torch import Tensor

from vqdist.data.loading.batch import to_images
from vqdist.data.open_dataset import Dataset
from vqdist.inference.split_loader import SplitLoader

FLOOR = 0.02  # least standard deviation, in grey values of [0, 1]
BATCH = 64


class TrainingDeviation:
    """Mean and standard deviation of the training slices at each pixel, for each slice number.

    Attributes:
        image_size: side of the images.
    """

    def __init__(self, image_size: int, channels: int) -> None:
        self.image_size, self._shape = image_size, (channels, image_size, image_size)
        self._sums: dict[int, tuple[int, Tensor, Tensor]] = {}  # number -> count, sum, sum of squares

    @classmethod
    def fit(cls, dataset: Dataset) -> Self:
        """Compute the statistics of the train split of a dataset of images."""
        manifest = dataset.manifest
        found = cls(manifest.image_size[0], manifest.channels)
        for batch in SplitLoader(dataset, "train", batch_size=BATCH).load_all():
            for image, number in zip(to_images(batch.values).double(), batch.slice.tolist(), strict=True):
                found.add(image, number)
        return found

    def add(self, image: Tensor, number: int) -> None:
        """Count a training slice (C, S, S)."""
        empty = (0, torch.zeros(self._shape, dtype=torch.float64), torch.zeros(self._shape, dtype=torch.float64))
        count, total, squares = self._sums.get(number, empty)
        self._sums[number] = (count + 1, total + image, squares + image.square())

    def measure(self, image: Tensor, number: int | None) -> Tensor:
        """Return |image - mean| / standard deviation, averaged over channels: (S, S).

        Args:
            image: (C, S, S) in [0, 1].
            number: slice number; the statistics of all numbers are used if it is unknown.
        """
        chosen = [self._sums[number]] if number in self._sums else list(self._sums.values())
        count = sum(part[0] for part in chosen)
        mean = torch.stack([part[1] for part in chosen]).sum(dim=0) / count
        variance = torch.stack([part[2] for part in chosen]).sum(dim=0) / count - mean.square()
        return ((image - mean).abs() / variance.clamp(min=0).sqrt().clamp(min=FLOOR)).mean(dim=0).float()
