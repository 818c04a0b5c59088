"""The training slices of a prior: healthy slices that others are compared with."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vqdist.data.loading.batch import NO_NUMBER
from vqdist.data.open_dataset import Dataset, open_dataset
from vqdist.foundation.errors import UserError
from vqdist.foundation.progress import count_noun
from vqdist.foundation.seeds import derive_seed
from vqdist.inference.anomaly.maps import score_comparison
from vqdist.inference.anomaly.method import ScoringMethod
from vqdist.inference.anomaly.reference import HealthyReference, find_others
from vqdist.inference.anomaly.reference_comparison import compare_with_references
from vqdist.inference.changed_data import report_changed_images
from vqdist.inference.split_loader import SplitLoader
from vqdist.metrics.images import brain_mask
from vqdist.runs.run_dir import read_run_config

MAX_SLICES = 1024  # that are kept in memory
MAX_COMPARED = 96  # with one slice
MAX_SCORED = 128  # that are scored as healthy slices
MIN_SLICES = 10  # and
MIN_SUBJECTS = 2  # of a dataset that the user named; with fewer, slices drawn from the prior are better references
BATCH = 64


@dataclass(frozen=True)
class TrainingSlices:
    """Training slices in memory.

    Attributes:
        images: (n, C, S, S) uint8.
        subjects: (n,).
        numbers: slice number of each; None if unknown.
    """

    images: Tensor
    subjects: npt.NDArray[np.str_]
    numbers: Sequence[int | None]

    @classmethod
    def load(cls, dataset: Dataset) -> Self:
        """Load whole subjects of the train split, in a random order that is always the same, up to MAX_SLICES slices.

        If the first subject has more slices, MAX_SLICES of them are loaded.
        """
        loader = SplitLoader(dataset, "train", batch_size=BATCH)
        subjects = np.array(loader.subjects())
        chosen = choose_subjects(subjects)
        batches = list(loader.load_batches([chosen[start : start + BATCH] for start in range(0, len(chosen), BATCH)]))
        numbers = [None if number == NO_NUMBER else number for batch in batches for number in batch.slice.tolist()]
        return cls(torch.cat([batch.values for batch in batches]), subjects[chosen], numbers)

    def near(self, number: int | None, reach: int, *, without: str) -> Tensor:
        """Return the slices whose number differs by at most `reach`, at most MAX_COMPARED: (m, C, S, S) uint8.

        Args:
            without: a subject to leave out; see `find_others`.
        """
        chosen = find_others(self.numbers, self.subjects, number, reach, without=without)
        places = np.linspace(0, len(chosen) - 1, min(len(chosen), MAX_COMPARED)).round().astype(np.int64)
        return self.images[torch.from_numpy(chosen[places])]

    def choose_scored(self, *, without: Collection[str]) -> list[int]:
        """Return the indices of at most MAX_SCORED slices, evenly over the slice numbers of all subjects.

        Returns none if there are less than MIN_SUBJECTS: a training slice is compared with those of others.

        Args:
            without: subjects to leave out.
        """
        if len(np.unique(self.subjects)) < MIN_SUBJECTS:
            return []
        step = -(-len(self.subjects) // MAX_SCORED)
        places = np.array([index if number is None else number for index, number in enumerate(self.numbers)])
        allowed = ~np.isin(self.subjects, list(without))
        return np.flatnonzero((places % step == step // 2) & allowed)[:MAX_SCORED].tolist()

    def score(self, index: int, reference: HealthyReference, method: ScoringMethod, *, symmetric: bool) -> float:
        """Return the score of a slice, compared with those of the other subjects, as that of a new person."""
        number, image = self.numbers[index], self.images[index].float() / 255
        references = self.near(number, method.reference_reach, without=str(self.subjects[index]))
        comparison = compare_with_references(image, references, method, symmetric=symmetric)
        return score_comparison(comparison, brain_mask(image[None])[0, 0], reference.statistics(number), method)


def choose_subjects(subjects: npt.NDArray[np.str_]) -> npt.NDArray[np.int64]:
    """Return the indices of the samples to load, in ascending order; see `TrainingSlices.load`."""
    names = np.unique(subjects)
    order = np.random.default_rng(derive_seed(0, "training slices")).permutation(len(names))
    ranked = np.argsort(order)[np.searchsorted(names, subjects)]  # place of the subject of each sample in the order
    counts = np.bincount(ranked).cumsum()
    allowed = max(1, int((counts <= MAX_SLICES).sum()))
    return np.flatnonzero(ranked < allowed)[:MAX_SLICES]


def find_training_images(prior: Path, candidates: list[Path], *, image_size: int, channels: int) -> Dataset | None:
    """Return the training images of a prior: those of a candidate, or the ones that its codes were made from.

    A candidate with few training slices is left out, unless the codes were made from it.

    Args:
        prior: run of the PixelCNN.
        candidates: datasets that the user named.
        image_size, channels: of the VQ-VAE.
    """
    found = _examine(prior, candidates, image_size=image_size, channels=channels)
    return next((dataset for dataset, fault in found if not fault), None)


def explain_missing_images(prior: Path, candidates: list[Path], *, image_size: int, channels: int) -> str:
    """Return why none of the datasets in which `find_training_images` looks is used, as text."""
    return "; ".join(fault for _, fault in _examine(prior, candidates, image_size=image_size, channels=channels))


def _examine(
    prior: Path, candidates: list[Path], *, image_size: int, channels: int
) -> Iterator[tuple[Dataset | None, str]]:
    """Yield each dataset, None if it cannot be read, and why it is not used; the reason is empty if it can be."""
    recorded = list_recorded_images(open_recorded_codes(prior))
    known = {path.resolve() for path in recorded}
    for path in dict.fromkeys([*candidates, *recorded]):
        try:
            dataset = open_dataset(path)
        except (UserError, OSError):
            yield None, f"{path} is no dataset that can be read"
            continue
        yield dataset, _find_fault(dataset, image_size, channels, is_known=path.resolve() in known)


def _find_fault(dataset: Dataset, image_size: int, channels: int, *, is_known: bool) -> str:
    manifest, path = dataset.manifest, dataset.path
    train = manifest.splits.get("train")
    if manifest.kind != "images":
        return f"{path} has no images"
    if train is None:
        return f"{path} has no train split"
    slices = f"{path} has {count_noun(train.samples, 'train slice')}"
    if manifest.channels != channels:
        return f"{slices} of {count_noun(manifest.channels, 'channel')}, but the VQ-VAE takes {channels}"
    if manifest.image_size != (image_size, image_size):
        height, width = manifest.image_size
        expected = f"{image_size} x {image_size}: shard them with `--image-size {image_size}`"
        return f"{slices} of {height} x {width} pixels, but the VQ-VAE takes {expected}"
    if train.samples < 2 or not (is_known or (train.samples >= MIN_SLICES and train.subjects >= MIN_SUBJECTS)):
        subjects = count_noun(train.subjects, "subject")
        return f"{slices} of {subjects}; at least {MIN_SLICES} slices of {MIN_SUBJECTS} subjects are needed"
    return ""


def report_changed_slices(prior: Path, images: Path, split: str) -> None:
    """Print a warning if a dataset is the one that the codes of a prior were encoded from, and has changed."""
    codes = open_recorded_codes(prior)
    if codes is not None and any(path.resolve() == images.resolve() for path in list_recorded_images(codes)):
        report_changed_images(open_dataset(images), codes, split)


def open_recorded_codes(prior: Path) -> Dataset | None:
    """Return the codes that the configuration of a run names, if they still exist."""
    try:
        return open_dataset(read_run_config(prior)["data"]["path"])
    except (OSError, UserError, KeyError, TypeError):
        return None


def list_recorded_images(codes: Dataset | None) -> list[Path]:
    """Return the path of the images that codes were encoded from, if it is recorded."""
    path = None if codes is None else codes.manifest.source.get("images")
    return [Path(path)] if isinstance(path, str) else []
