"""Diversity of slices: the mean MS-SSIM between pairs of different subjects."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations, islice
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from vqdist.data.loading.batch import to_images
from vqdist.data.loading.plan import FixedBatchPlan
from vqdist.distributed.process_group import Ranks
from vqdist.evaluation.pass_progress import show_pass
from vqdist.evaluation.samples.sample_folder import SampleFolder
from vqdist.foundation.seeds import derive_seed
from vqdist.inference.split_loader import SplitLoader
from vqdist.inference.work_sharing import map_batches
from vqdist.metrics.images import ms_ssim

MAX_PAIRS = 500
MAX_SLICES_FOR_ALL_PAIRS = 64
PAIRS_PER_BATCH = 16

Integers = npt.NDArray[np.int64]


def compare_diversity(samples: SampleFolder, splits: Mapping[str, SplitLoader], ranks: Ranks) -> dict[str, Any]:
    """Return the mean MS-SSIM between pairs of samples and between pairs of real slices; lower is more diverse.

    Args:
        splits: real slices by name; the slices of a pair are of different subjects.
    Must be called by all ranks.
    """
    report: dict[str, Any] = {"measure": "mean MS-SSIM between pairs, real ones of two people"}
    manifest = next(iter(splits.values())).manifest
    pairs = batch_pairs(choose_pairs([str(path) for path in samples.paths]))
    plan = FixedBatchPlan(pairs, rank=ranks.rank, world_size=ranks.world_size)
    images = (samples.read(request.samples, manifest) for request in plan)
    report["samples"] = mean_similarity(_show_pairs(images, pairs, "the samples", ranks), ranks)
    for name, split in splits.items():
        pairs = batch_pairs(choose_pairs(split.subjects()))
        images = (to_images(batch.values) for batch in split.load_batches(pairs, ranks))
        report[name] = mean_similarity(_show_pairs(images, pairs, split.name, ranks), ranks)
    return report


def _show_pairs(images: Iterable[Tensor], pairs: Sequence[Integers], name: str, ranks: Ranks) -> Iterator[Tensor]:
    total = sum(map(len, pairs)) // 2
    return show_pass(images, total, ranks, label=f"pairs of {name}", unit="pairs", size=lambda batch: len(batch) // 2)


def choose_pairs(subjects: Sequence[str]) -> Integers:
    """Return the numbers of the slices of pairs of different subjects, (P, 2): all pairs, or MAX_PAIRS at random.

    Args:
        subjects: subject of each slice.
    """
    rng = np.random.default_rng(derive_seed(0, "pairs"))
    if len(subjects) <= MAX_SLICES_FOR_ALL_PAIRS:
        every = combinations(range(len(subjects)), 2)
        pairs = _as_pairs([pair for pair in every if subjects[pair[0]] != subjects[pair[1]]])
        return pairs[np.sort(rng.permutation(len(pairs))[:MAX_PAIRS])]
    # Limited, because nearly all slices may be of one subject: then there are fewer than MAX_PAIRS.
    drawn = rng.integers(len(subjects), size=(20 * MAX_PAIRS, 2)).tolist()
    different = (pair for pair in drawn if subjects[pair[0]] != subjects[pair[1]])
    return _as_pairs(list(islice(different, MAX_PAIRS)))


def _as_pairs(pairs: Sequence[Sequence[int]]) -> Integers:
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def batch_pairs(pairs: Integers) -> list[Integers]:
    """Return the slices of the pairs in batches: of each batch the first slice of every pair, then the second ones."""
    return [pairs[start : start + PAIRS_PER_BATCH].T.ravel() for start in range(0, len(pairs), PAIRS_PER_BATCH)]


def mean_similarity(batches: Iterable[Tensor], ranks: Ranks) -> float | None:
    """Return the mean MS-SSIM between pairs; None if there are no pairs. Must be called by all ranks.

    Args:
        batches: this rank's images, (2 P, C, H, W), of batches as `batch_pairs` returns them.
    """
    similarities = map_batches(ranks, batches, lambda images: ms_ssim(*images.to(ranks.device).chunk(2)).tolist())
    return float(np.concatenate(similarities).mean()) if similarities else None
