"""Compare samples with real slices. Each metric is also reported for real slices that are not in train."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from vqdist.data.loading.batch import Batch, to_images
from vqdist.data.loading.plan import FixedBatchPlan, MicroBatchPlan
from vqdist.data.orientation import shows_pictures
from vqdist.distributed.process_group import Ranks
from vqdist.evaluation.pass_progress import show_pass
from vqdist.evaluation.samples.condition_effects import compare_conditions
from vqdist.evaluation.samples.copies import CALIBRATION_SLICES, calibrate, count_copies, find_limits, search_copies
from vqdist.evaluation.samples.copy_search import CopySearch, NearestSlices
from vqdist.evaluation.samples.coverage import compare_coverage
from vqdist.evaluation.samples.distribution_distances import compare_features, compare_grey_values, compare_spectra
from vqdist.evaluation.samples.diversity import compare_diversity
from vqdist.evaluation.samples.network_features import compare_network_features, load_network, measure_features
from vqdist.evaluation.samples.same_person_pairs import compare_same_person_pairs
from vqdist.evaluation.samples.sample_folder import SampleFolder
from vqdist.evaluation.samples.slice_figures import compare_figures, compare_positions
from vqdist.evaluation.samples.slice_statistics import SliceStatistics
from vqdist.evaluation.samples.volume_comparison import compare_volumes
from vqdist.foundation.progress import count_noun, print_message
from vqdist.inference.split_loader import SplitLoader, group_in_batches
from vqdist.inference.work_sharing import map_batches
from vqdist.metrics.images import round_to_uint8
from vqdist.models.vqvae import VQVAE


@dataclass(frozen=True)
class SampleReport:
    """The comparison of samples with real slices, and what its figures show.

    Attributes:
        report: JSON values.
        statistics: of "train", "test" (real slices that are not in train), "reconstructions" of test, and "samples".
        nearest: training slices nearest to those of test and samples.
    """

    report: dict[str, Any]
    statistics: dict[str, SliceStatistics]
    nearest: dict[str, NearestSlices]
    samples: SampleFolder
    train: SplitLoader


def compare_samples(
    samples: SampleFolder,
    train: SplitLoader,
    test: SplitLoader,
    *,
    vqvae: VQVAE,
    ranks: Ranks,
    features: Path | None = None,
) -> SampleReport:
    """Compare samples with real slices. Must be called by all ranks.

    Args:
        train: the training slices, at least two.
        test: real slices that are not in train, at least two.
        vqvae: its reconstructions of test show what the codes alone change.
        features: file of a network for FID and KID; see `load_network`.
    """
    are_brains = not shows_pictures(train.manifest)
    statistics = measure_slices(samples, train, test, vqvae=vqvae, ranks=ranks)
    print_message(f"evaluate: looking for copies of {count_noun(len(train), 'training slice')} ...")
    search = CopySearch(statistics["train"].thumbnails)
    nearest = {
        name: search_copies(search, statistics[name].thumbnails, ranks, label=f"copies in {shown}")
        for name, shown in (("test", test.name), ("samples", "the samples"))
    }
    limits = find_limits(nearest["test"])
    copies = count_copies(nearest, limits)
    copies["calibration"] = calibrate(search, statistics["train"], limits, ranks, slices=CALIBRATION_SLICES)
    report = {
        "samples": len(samples),
        "feature_distance": compare_features(statistics),
        "coverage": compare_coverage(statistics),
        "diversity": compare_diversity(samples, {"train": train, "test": test}, ranks),
        "same_person_pairs": compare_same_person_pairs(search, statistics, ranks),
        "copies": {**copies, "nearest": list_nearest(samples, train, nearest["samples"])},
        "grey_values": compare_grey_values(statistics),
        "power_spectrum": compare_spectra(statistics),
        "slice_figures": compare_figures(statistics, are_brains=are_brains),
    }
    if are_brains:
        report["anatomy_by_slice"] = compare_positions(statistics)
    if samples.depth:
        report["volumes"] = compare_volumes(samples, statistics, train, test, vqvae=vqvae, ranks=ranks)
    if are_brains and (effects := compare_conditions(samples, train, test, ranks)):
        report["anatomy_by_condition"] = effects
    if features is not None:
        report |= compare_with_network(features, samples, train, test, ranks)
    return SampleReport(report, statistics, nearest, samples, train)


def measure_slices(
    samples: SampleFolder, train: SplitLoader, test: SplitLoader, *, vqvae: VQVAE, ranks: Ranks
) -> dict[str, SliceStatistics]:
    """Return the statistics of train, test, the reconstructions of test, and the samples.

    Must be called by all ranks.
    """
    model, device = vqvae.to(ranks.device), ranks.device

    train_subjects, test_subjects = (np.array(split.subjects()) for split in (train, test))

    def measure_train(batch: Batch) -> SliceStatistics:
        return measure(to_images(batch.values.to(device)), batch, train_subjects)

    def measure_test(batch: Batch) -> tuple[SliceStatistics, SliceStatistics]:
        images = to_images(batch.values.to(device))
        recon = round_to_uint8(model.reconstruct(images))
        return measure(images, batch, test_subjects), measure(recon, batch, test_subjects)

    def measure(images: Tensor, batch: Batch, subjects: npt.NDArray[np.str_]) -> SliceStatistics:
        # The positions of a batch of a SplitLoader are the numbers of its samples in the split.
        return SliceStatistics.measure(images, batch.slice.numpy(), subjects[batch.positions.numpy()])

    def measure_samples(plan: MicroBatchPlan) -> SliceStatistics:
        numbers = plan.samples
        images = samples.read(numbers, train.manifest).to(device)
        return SliceStatistics.measure(images, samples.slice_numbers[numbers], samples.subjects[numbers])

    plan = FixedBatchPlan(
        group_in_batches([len(samples)], test.batch_size), rank=ranks.rank, world_size=ranks.world_size
    )
    train_slices, test_slices = (
        show_pass(split.load_all(ranks), len(split), ranks, label=f"statistics of {split.name}", size=len)
        for split in (train, test)
    )
    train_parts = map_batches(ranks, train_slices, measure_train)
    test_parts, recon_parts = zip(*map_batches(ranks, test_slices, measure_test), strict=True)
    requests = show_pass(
        plan, len(samples), ranks, label="statistics of the samples", size=lambda request: len(request.samples)
    )
    sample_parts = map_batches(ranks, requests, measure_samples)
    parts = {"train": train_parts, "test": test_parts, "reconstructions": recon_parts, "samples": sample_parts}
    return {name: SliceStatistics.concatenate(batches) for name, batches in parts.items()}


def compare_with_network(
    path: Path, samples: SampleFolder, train: SplitLoader, test: SplitLoader, ranks: Ranks
) -> dict[str, Any]:
    """Return FID and KID as JSON values. Must be called by all ranks."""
    network = load_network(path, ranks.device)
    groups = group_in_batches([len(samples)], test.batch_size)
    plan = FixedBatchPlan(groups, rank=ranks.rank, world_size=ranks.world_size)
    images: dict[str, tuple[int, Iterator[Tensor]]] = {
        split: (len(loader), (to_images(batch.values) for batch in loader.load_all(ranks)))
        for split, loader in (("train", train), ("test", test))
    }
    images["samples"] = (len(samples), (samples.read(request.samples, train.manifest) for request in plan))
    features, shown_names = {}, {"train": train.name, "test": test.name, "samples": "the samples"}
    for name, (total, batches) in images.items():
        shown = show_pass(batches, total, ranks, label=f"network features of {shown_names[name]}", size=len)
        parts = map_batches(ranks, shown, lambda batch: measure_features(network, batch.to(ranks.device)))
        features[name] = np.concatenate(parts)
    return compare_network_features(features)


def list_nearest(samples: SampleFolder, train: SplitLoader, nearest: NearestSlices) -> list[dict[str, Any]]:
    """Return for each sample the key of the most similar training slice and the similarities."""
    return [
        {"file": path.name, "train": train.key(index), "mirror": mirror, "whole": whole, "half": half}
        for path, index, mirror, whole, half in zip(
            samples.paths,
            nearest.index.tolist(),
            nearest.mirror.tolist(),
            nearest.whole.tolist(),
            nearest.half.tolist(),
            strict=True,
        )
    ]
