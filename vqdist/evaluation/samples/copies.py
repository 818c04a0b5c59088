"""Near copies of training slices among samples: their number, the limit of similarity, and what the limit finds."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from vqdist.data.augmentation import AXES
from vqdist.data.loading.plan import FixedBatchPlan
from vqdist.distributed.process_group import Ranks
from vqdist.evaluation.pass_progress import show_pass
from vqdist.evaluation.samples.copy_search import BAND, CopySearch, NearestSlices, Thumbnails
from vqdist.evaluation.samples.slice_statistics import THUMBNAIL, SliceStatistics
from vqdist.foundation.seeds import derive_seed
from vqdist.inference.split_loader import group_in_batches
from vqdist.inference.work_sharing import map_batches

_BATCH = 8
# Middle between the similarity of a slice to itself and the 95th percentile of real slices that are not in train: both
# are known for every dataset, and a few leaked slices among the real ones do not change the percentile.
_REAL_PERCENTILE = 95
LIMIT_RULE = f"middle between 1 and the {_REAL_PERCENTILE}th percentile of the real slices that are not in train"
CALIBRATION_SLICES = 6  # evenly spaced in train

Integers = npt.NDArray[np.int64]


def search_copies(search: CopySearch, thumbnails: Thumbnails, ranks: Ranks, *, label: str) -> NearestSlices:
    """Return the most similar training slice of each slice. Must be called by all ranks."""
    batches = group_in_batches([len(thumbnails)], _BATCH)
    plan = FixedBatchPlan(batches, rank=ranks.rank, world_size=ranks.world_size)
    shown = show_pass(plan, len(thumbnails), ranks, label=label, size=lambda request: len(request.samples))
    return NearestSlices.concatenate(
        map_batches(ranks, shown, lambda request: search.find(thumbnails[request.samples]))
    )


def find_limits(real: NearestSlices) -> dict[str, float]:
    """Return the similarities of "whole" slices and of a "half" from which a slice is a near copy; see LIMIT_RULE."""
    found = {"whole": real.whole, "half": real.half}
    return {name: float(1 + np.percentile(values, _REAL_PERCENTILE)) / 2 for name, values in found.items()}


def are_copies(nearest: NearestSlices, limits: Mapping[str, float]) -> npt.NDArray[np.bool_]:
    """Return which slices are near copies: similar as a whole, or in one half."""
    return (nearest.whole > limits["whole"]) | (nearest.half > limits["half"])


def count_copies(nearest: Mapping[str, NearestSlices], limits: Mapping[str, float]) -> dict[str, Any]:
    """Return the similarities of each set to the training slices and the number of near copies, as JSON values."""
    report: dict[str, Any] = {
        "similarity": (
            f"normalised correlation at {THUMBNAIL} x {THUMBNAIL} pixels in a band of {BAND[0]:g} to {BAND[1]:g} "
            "cycles, largest over all moves, mirrorings, turns by up to 4 degrees and sizes within 5 %; of whole "
            "slices and of halves"
        ),
        "limits": {**limits, "rule": LIMIT_RULE},
    }
    for name, found in nearest.items():
        report[name] = {
            "median": float(np.median(found.whole)),
            "largest": float(found.whole.max()),
            "largest_half": float(found.half.max()),
            "near_copies": int(are_copies(found, limits).sum()),
            "slices": len(found),
        }
    return report


def calibrate(
    search: CopySearch, train: SliceStatistics, limits: Mapping[str, float], ranks: Ranks, *, slices: int
) -> dict[str, Any]:
    """Return the share of altered copies of training slices that the limits find, by kind of copy, as JSON values.

    Must be called by all ranks.

    Args:
        slices: number of training slices to copy, evenly spaced.
    """
    numbers = np.unique(np.linspace(0, len(train) - 1, slices).astype(np.int64))
    kinds = {name: alter(train.thumbnails[numbers]) for name, alter in COPIES.items()}
    others = [find_other_subject(train, number) for number in numbers]
    pairs = [(number, other) for number, other in zip(numbers, others, strict=True) if other is not None]
    if pairs:
        kinds["halves of two people"] = join_halves(train.thumbnails, pairs)
    found = search_copies(search, np.concatenate(list(kinds.values())), ranks, label="altered copies of train")
    copies = np.split(are_copies(found, limits), np.cumsum([len(images) for images in kinds.values()])[:-1])
    shares = {name: {"found": int(part.sum()), "copies": len(part)} for name, part in zip(kinds, copies, strict=True)}
    return {"train_slices": len(numbers), "kinds": shares}


def find_other_subject(train: SliceStatistics, number: int) -> int | None:
    """Return a training slice of another subject, with the same slice number if there is one; None for one subject."""
    rng = np.random.default_rng(derive_seed(0, "halves", number))
    other = train.subjects != train.subjects[number]
    same = other & (train.slice_numbers == train.slice_numbers[number])
    chosen = np.flatnonzero(same if same.any() else other)
    return int(rng.choice(chosen)) if len(chosen) else None


def join_halves(thumbnails: Thumbnails, pairs: Sequence[tuple[int, int]]) -> Thumbnails:
    """Return slices whose upper half is that of one slice and whose lower half that of another one."""
    middle = THUMBNAIL // 2
    return np.stack([np.concatenate([thumbnails[one, :middle], thumbnails[two, middle:]]) for one, two in pairs])


def _to_uint8(images: npt.NDArray[np.floating]) -> Thumbnails:
    return np.clip(np.round(images), 0, 255).astype(np.uint8)


def _transform(thumbnails: Thumbnails, *, degrees: float = 0, size: float = 1, rows: float = 0) -> Thumbnails:
    """Turn, enlarge and move slices, with bilinear interpolation; `rows` as a share of the slice."""
    angle = np.deg2rad(degrees)
    cosine, sine = np.cos(angle) / size, np.sin(angle) / size
    matrix = torch.tensor([[cosine, -sine, 0], [sine, cosine, -2 * rows]], dtype=torch.float32)
    images = torch.from_numpy(thumbnails).float()[:, None]
    grid = F.affine_grid(matrix.expand(len(images), -1, -1), list(images.shape), align_corners=False)
    return _to_uint8(F.grid_sample(images, grid, align_corners=False)[:, 0].numpy())


def _flip(thumbnails: Thumbnails, axis: int) -> Thumbnails:
    return np.flip(thumbnails, axis)


# Moves are in shares of the slice: 1/128 and 1.5/128 are 2 and 3 pixels of 256.
COPIES: dict[str, Callable[[Thumbnails], Thumbnails]] = {
    "unchanged": lambda images: images,
    "moved by 1/128": lambda images: np.roll(images, (1, 1), axis=(1, 2)),
    "moved by 1.5/128": lambda images: _transform(images, rows=1.5 / 128),
    "moved by 1/16": lambda images: np.roll(images, (8, -8), axis=(1, 2)),
    **{f"mirrored {name}": partial(_flip, axis=axis) for name, axis in AXES.items()},
    "grey values x 0.85": lambda images: _to_uint8(images * 0.85),
    "gamma 0.7": lambda images: _to_uint8(255 * (images / 255) ** 0.7),
    "turned by 2 degrees": lambda images: _transform(images, degrees=2),
    "turned by 5 degrees": lambda images: _transform(images, degrees=5),
    "5 % larger": lambda images: _transform(images, size=1.05),
}
