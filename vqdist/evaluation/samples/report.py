"""The report on a folder of samples: each figure beside what real, unseen slices have."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from vqdist.data.loading.batch import to_images
from vqdist.data.shards.reader import ShardReader
from vqdist.distributed.process_group import Ranks
from vqdist.evaluation.samples.comparison import (
    compare_features,
    compare_grey_values,
    compare_positions,
    compare_spectra,
)
from vqdist.evaluation.samples.copies import Nearest, count_copies, find_nearest
from vqdist.evaluation.samples.sample_folder import NO_SLICE, Integers, SampleFolder
from vqdist.evaluation.samples.slice_statistics import Digest
from vqdist.foundation.errors import DataError
from vqdist.foundation.seeds import derive_seed
from vqdist.inference.batches import map_batches, open_split, read_batch, subjects_of
from vqdist.metrics.images import ms_ssim
from vqdist.models.vqvae import VQVAE

MOST_PAIRS = 500


@dataclass(frozen=True)
class Realism:
    """The report, and what the figures show of it.

    Attributes:
        report: JSON values.
        digests: "train", "test", "reconstructions", "samples".
        nearest: of test, reconstructions and samples.
    """

    report: dict[str, Any]
    digests: dict[str, Digest]
    nearest: dict[str, Nearest]


def judge_samples(
    folder: SampleFolder, data: str | Path, *, split: str, vqvae: VQVAE, ranks: Ranks, batch_size: int
) -> Realism:
    """Hold samples against the real slices of train and of another split.

    Args:
        data: the data set of real images; folder.manifest is its manifest.
        split: of unseen slices, test.
        vqvae: whose reconstructions of the split tell what the codes alone cost.
    Raises:
        DataError: a split has fewer than two slices, so that there is no distance within it.
    Collective: all ranks.
    """
    manifest = folder.manifest
    train, test = open_split(data, manifest, "train"), open_split(data, manifest, split)
    for name, reader in (("train", train), (split, test)):
        if len(reader) < 2:
            raise DataError.of(f"{data}, {name}", f"{len(reader)} slices", "at least two, to hold samples against")
    model, device = vqvae.to(ranks.device), ranks.device

    def real(reader: ShardReader, numbers: Integers) -> Tensor:
        return to_images(read_batch(reader, manifest, numbers).values.to(device))

    works = {
        "train": (len(train), lambda numbers: Digest.of(real(train, numbers))),
        "test": (len(test), lambda numbers: Digest.of(real(test, numbers))),
        "reconstructions": (len(test), lambda numbers: Digest.of(as_saved(model.reconstruct(real(test, numbers))))),
        "samples": (len(folder.paths), lambda numbers: Digest.of(folder.read(numbers).to(device))),
    }
    digests = {
        name: Digest.join(map_batches(ranks, count, work, batch_size=batch_size))
        for name, (count, work) in works.items()
    }
    nearest = {name: find_nearest(digests[name], digests["train"]) for name in ("test", "reconstructions", "samples")}
    others = {name: digests[name] for name in ("reconstructions", "samples")}
    train_slices, test_slices = read_slices(train), read_slices(test)
    positions = {
        "test": (digests["test"], test_slices),
        "reconstructions": (digests["reconstructions"], test_slices),
        "samples": (digests["samples"], folder.slices),
    }
    report = {
        "samples": len(folder.paths),
        "feature_distance": compare_features(digests["train"], digests["test"], others),
        "diversity": compare_diversity(folder, {"train": train, "test": test}, ranks),
        "copies": {**count_copies(nearest), "nearest": list_nearest(folder, train, nearest)},
        "grey_values": compare_grey_values(digests["train"], digests["test"], others),
        "power_spectrum": compare_spectra(digests["train"], digests["test"], others),
        "anatomy_by_slice": compare_positions(digests["train"], train_slices, positions),
    }
    return Realism(report, digests, nearest)


def read_slices(reader: ShardReader) -> Integers:
    """Return the slice number of each sample of a split, NO_SLICE where it has none."""
    numbers = [reader.read(index)["json"].get("slice") for index in range(len(reader))]
    return np.array([number if type(number) is int else NO_SLICE for number in numbers])


def list_nearest(folder: SampleFolder, train: ShardReader, nearest: dict[str, Nearest]) -> list[dict[str, Any]]:
    """Return for each sample the key of its nearest training slice, and how near against the median of test."""
    usual = max(float(np.median(nearest["test"].distance)), 1e-12)
    found = nearest["samples"]
    return [
        {
            "file": path.name,
            "train": train.key(int(index)),
            "mirror": str(mirror),
            "ratio": float(distance) / usual,
        }
        for path, index, mirror, distance in zip(folder.paths, found.index, found.mirror, found.distance, strict=True)
    ]


def as_saved(images: Tensor) -> Tensor:
    """Return images rounded to grey values, as samples are saved."""
    return images.mul(255).round().div(255)


def compare_diversity(folder: SampleFolder, splits: dict[str, ShardReader], ranks: Ranks) -> dict[str, Any]:
    """Return the mean MS-SSIM between pairs of slices: the lower, the more they differ.

    Pairs of real slices are of two people. Collective: all ranks.
    """
    report: dict[str, Any] = {"measure": "mean MS-SSIM between pairs, real ones of two people"}
    pairs = choose_pairs([str(path) for path in folder.paths])
    report["samples"] = _mean_similarity(folder.read, pairs, ranks)
    for name, reader in splits.items():

        def read(numbers: Integers, reader: ShardReader = reader) -> Tensor:
            return to_images(read_batch(reader, folder.manifest, numbers).values)

        report[name] = _mean_similarity(read, choose_pairs(subjects_of(reader)), ranks)
    return report


def choose_pairs(owners: list[str]) -> Integers:
    """Return (P, 2) numbers of slices of different owners: all such pairs, or MOST_PAIRS of them at random."""
    if len(owners) <= 64:
        every = [pair for pair in combinations(range(len(owners)), 2) if owners[pair[0]] != owners[pair[1]]]
        pairs = np.array(every, dtype=np.int64).reshape(-1, 2)
        chosen = np.random.default_rng(derive_seed(0, "pairs")).permutation(len(pairs))[:MOST_PAIRS]
        return pairs[np.sort(chosen)]
    return np.array(list(_draw_pairs(owners)), dtype=np.int64).reshape(-1, 2)


def _draw_pairs(owners: list[str]) -> Iterator[tuple[int, int]]:
    rng = np.random.default_rng(derive_seed(0, "pairs"))
    found = 0
    # Where nearly all slices are one person's, fewer pairs than asked must do.
    for first, second in rng.integers(len(owners), size=(20 * MOST_PAIRS, 2)):
        if owners[first] != owners[second]:
            yield int(first), int(second)
            found += 1
        if found == MOST_PAIRS:
            return


def _mean_similarity(read: Any, pairs: Integers, ranks: Ranks) -> float | None:
    def work(numbers: Integers) -> list[float]:
        first, second = (read(pairs[numbers, side]).to(ranks.device) for side in range(2))
        return ms_ssim(first, second).tolist()

    if not len(pairs):
        return None
    return float(np.concatenate(map_batches(ranks, len(pairs), work, batch_size=16)).mean())
