"""Copies of training slices among samples, also mirrored and shifted ones."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from vqdist.config.augmentation import Mirror
from vqdist.data.augmentation import AXES
from vqdist.evaluation.samples.slice_statistics import THUMBNAIL, SliceStatistics

# A slice is a near copy if its distance to the nearest training slice is below this share of the median distance of
# the real slices of test.
NEAR_COPY = 0.5
MAX_SHIFT = 1  # pixels of a thumbnail, in each direction
_BLOCK = 256

Thumbnails = npt.NDArray[np.float32]
Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class NearestSlices:
    """The nearest training slice of each slice of a set.

    Attributes:
        index: (N,) number of the training slice.
        mirror: (N,) how the training slice is mirrored to be nearest: "none", "up-down" or "left-right".
        distance: (N,) root mean square difference of the thumbnails.
    """

    index: npt.NDArray[np.int64]
    mirror: npt.NDArray[np.str_]
    distance: Values


def find_nearest(slices: SliceStatistics, train: SliceStatistics) -> NearestSlices:
    """Return the nearest training slice of each slice, by the pixels of the thumbnails.

    A prior that was trained on augmented views could copy those. Therefore each training slice is compared as it is and
    mirrored, and shifted by up to MAX_SHIFT pixels.
    """
    count = len(slices)
    index, mirrors = np.zeros(count, np.int64), np.full(count, "none", dtype="<U10")
    distance = np.full(count, np.inf)
    squares = (train.thumbnails.astype(np.float64) ** 2).sum(axis=1)  # the same for all views, as shifts are circular
    for mirror, views in _augment(train.thumbnails):
        for start in range(0, count, _BLOCK):
            rows = slice(start, start + _BLOCK)
            block = slices.thumbnails[rows]
            found = (squares[None] - 2 * (block @ views.T)).argmin(axis=1)
            distances = np.sqrt(((block - views[found]) ** 2).mean(axis=1, dtype=np.float64))
            nearer = distances < distance[rows]
            index[rows] = np.where(nearer, found, index[rows])
            mirrors[rows] = np.where(nearer, mirror, mirrors[rows])
            distance[rows] = np.minimum(distances, distance[rows])
    return NearestSlices(index, mirrors, distance)


def _augment(thumbnails: Thumbnails) -> Iterator[tuple[Mirror, Thumbnails]]:
    """Yield the thumbnails, (N, P), mirrored and shifted in each way; the unchanged ones come first."""
    images = thumbnails.reshape(-1, THUMBNAIL, THUMBNAIL)
    shifts = sorted(product(range(-MAX_SHIFT, MAX_SHIFT + 1), repeat=2), key=lambda shift: shift != (0, 0))
    mirrored: dict[Mirror, Thumbnails] = {"none": images}
    mirrored |= {mirror: np.flip(images, axis) for mirror, axis in AXES.items()}
    for mirror, views in mirrored.items():
        for shift in shifts:
            yield mirror, np.roll(views, shift, axis=(1, 2)).reshape(thumbnails.shape)


def count_copies(nearest: Mapping[str, NearestSlices]) -> dict[str, Any]:
    """Return the distances of each set to the training slices and the number of near copies, as JSON values.

    Args:
        nearest: of "test", the reference, and of other sets.
    """
    reference = float(np.median(nearest["test"].distance))
    threshold = NEAR_COPY * reference
    report: dict[str, Any] = {
        "distance": f"root mean square of pixel differences at {THUMBNAIL} x {THUMBNAIL} to the nearest training "
        f"slice, as it is or mirrored, moved by up to {MAX_SHIFT} of these pixels",
        "threshold": threshold,
    }
    for name, found in nearest.items():
        report[name] = {
            "median": float(np.median(found.distance)),
            "smallest": float(found.distance.min()),
            "median_over_test": float(np.median(found.distance)) / reference if reference else None,
            "near_copies": int((found.distance < threshold).sum()),
            "slices": len(found.distance),
        }
    return report


def find_distance_ratios(nearest: Mapping[str, NearestSlices]) -> Values:
    """Return the ratio of the distance of each sample to the median distance of test."""
    return nearest["samples"].distance / max(float(np.median(nearest["test"].distance)), 1e-12)
