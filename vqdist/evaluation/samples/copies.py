"""Copies of training slices among samples: as they are, mirrored, or moved a little."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from vqdist.config.schema import Mirror
from vqdist.data.augmentation import AXES
from vqdist.evaluation.samples.slice_statistics import THUMBNAIL, Digest

# A sample is a near copy where its nearest training slice is closer than this share of the median distance that
# real, unseen slices have to theirs.
NEAR_COPY = 0.5
MOST_MOVED = 1  # pixels of a thumbnail, to each side
BLOCK = 256

Thumbnails = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Nearest:
    """The nearest training slice of each slice of a set.

    Attributes:
        index: (N,) its number.
        mirror: (N,) what changes places in it where it is nearest: "none", "rows" or "columns".
        distance: (N,) root mean square difference of the thumbnails.
    """

    index: npt.NDArray[np.int64]
    mirror: npt.NDArray[np.str_]
    distance: npt.NDArray[np.float64]


def find_nearest(digest: Digest, train: Digest) -> Nearest:
    """Return the nearest training slice of each slice, by the pixels of their thumbnails.

    A prior that was trained on mirrored and moved slices would copy those: each training slice counts with its mirror
    images, all also moved by up to MOST_MOVED pixels.
    """
    count = len(digest)
    index, mirrors = np.zeros(count, np.int64), np.full(count, "none", dtype="<U7")
    distance = np.full(count, np.inf)
    squares = (train.thumbnails.astype(np.float64) ** 2).sum(axis=1)  # of all views: what leaves comes in opposite
    for mirror, seen in _view(train.thumbnails):
        for start in range(0, count, BLOCK):
            here = slice(start, start + BLOCK)
            block = digest.thumbnails[here]
            found = (squares[None] - 2 * (block @ seen.T)).argmin(axis=1)
            apart = np.sqrt(((block - seen[found]) ** 2).mean(axis=1, dtype=np.float64))
            nearer = apart < distance[here]
            index[here] = np.where(nearer, found, index[here])
            mirrors[here] = np.where(nearer, mirror, mirrors[here])
            distance[here] = np.minimum(apart, distance[here])
    return Nearest(index, mirrors, distance)


def _view(thumbnails: Thumbnails) -> Iterator[tuple[Mirror, Thumbnails]]:
    """Yield the thumbnails, (N, P), in each way that they count: mirrored or not, and moved."""
    pictures = thumbnails.reshape(-1, THUMBNAIL, THUMBNAIL)
    moves = sorted(product(range(-MOST_MOVED, MOST_MOVED + 1), repeat=2), key=lambda move: move != (0, 0))
    turned: dict[Mirror, Thumbnails] = {"none": pictures}
    turned |= {mirror: np.flip(pictures, axis) for mirror, axis in AXES.items()}
    for mirror, seen in turned.items():
        for move in moves:
            yield mirror, np.roll(seen, move, axis=(1, 2)).reshape(thumbnails.shape)


def count_copies(nearest: dict[str, Nearest]) -> dict[str, Any]:
    """Return how near each set comes to training slices, against the real slices of test.

    Args:
        nearest: "test", and the sets to judge.
    """
    usual = float(np.median(nearest["test"].distance))
    threshold = NEAR_COPY * usual
    report: dict[str, Any] = {
        "distance": f"root mean square of pixel differences at {THUMBNAIL} x {THUMBNAIL} to the nearest training "
        f"slice, as it is or mirrored, moved by up to {MOST_MOVED} of these pixels",
        "threshold": threshold,
    }
    for name, found in nearest.items():
        report[name] = {
            "median": float(np.median(found.distance)),
            "smallest": float(found.distance.min()),
            "median_over_test": float(np.median(found.distance)) / usual if usual else None,
            "near_copies": int((found.distance < threshold).sum()),
            "slices": len(found.distance),
        }
    return report
