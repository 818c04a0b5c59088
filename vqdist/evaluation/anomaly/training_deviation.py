"""Deviation of a slice from the training mean at each pixel, a baseline of anomaly maps."""

from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from vqdist.data.loading.batch import to_images
from vqdist.data.open_dataset import Dataset, open_dataset
from vqdist.foundation.errors import UserError
from vqdist.inference.changed_data import report_changed_images
from vqdist.inference.split_loader import SplitLoader
from vqdist.runs.run_dir import read_run_config

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


def find_training_images(prior: Path, candidates: list[Path], *, image_size: int, channels: int) -> Dataset | None:
    """Return the training images of a prior: those of a candidate, or the ones that its codes were made from.

    Args:
        prior: run of the PixelCNN.
        candidates: datasets that the user named.
        image_size, channels: of the VQ-VAE.
    """
    paths = [*candidates, *_list_recorded_images(_open_recorded_codes(prior))]
    for path in paths:
        try:
            dataset = open_dataset(path)
        except (UserError, OSError):
            continue
        manifest, size = dataset.manifest, (image_size, image_size)
        train = manifest.splits.get("train")
        fits = manifest.kind == "images" and manifest.image_size == size and manifest.channels == channels
        if fits and train is not None and train.samples > 1:
            return dataset
    return None


def report_changed_slices(prior: Path, images: Path, split: str) -> None:
    """Print a warning if a dataset is the one that the codes of a prior were encoded from, and has changed."""
    codes = _open_recorded_codes(prior)
    if codes is not None and any(path.resolve() == images.resolve() for path in _list_recorded_images(codes)):
        report_changed_images(open_dataset(images), codes, split)


def _open_recorded_codes(prior: Path) -> Dataset | None:
    """Return the codes that the configuration of a run names, if they still exist."""
    try:
        return open_dataset(read_run_config(prior)["data"]["path"])
    except (OSError, UserError, KeyError, TypeError):
        return None


def _list_recorded_images(codes: Dataset | None) -> list[Path]:
    """Return the path of the images that codes were encoded from, if it is recorded."""
    path = None if codes is None else codes.manifest.source.get("images")
    return [Path(path)] if isinstance(path, str) else []
