"""Compare samples with real slices. Each metric is also reported for real slices that are not in train."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vqdist.data.loading.batch import Batch, to_images
from vqdist.data.loading.plan import FixedBatchPlan, MicroBatchPlan
from vqdist.data.orientation import shows_pictures
from vqdist.distributed.process_group import Ranks
from vqdist.evaluation.pass_progress import show_pass
from vqdist.evaluation.samples.condition_effects import compare_conditions
from vqdist.evaluation.samples.copies import NearestSlices, count_copies, find_distance_ratios, find_nearest
from vqdist.evaluation.samples.distribution_distances import (
    compare_features,
    compare_grey_values,
    compare_positions,
    compare_spectra,
)
from vqdist.evaluation.samples.diversity import compare_diversity
from vqdist.evaluation.samples.sample_folder import SampleFolder
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
        nearest: training slices nearest to those of test, reconstructions and samples.
    """

    report: dict[str, Any]
    statistics: dict[str, SliceStatistics]
    nearest: dict[str, NearestSlices]
    samples: SampleFolder
    train: SplitLoader


def compare_samples(
    samples: SampleFolder, train: SplitLoader, test: SplitLoader, *, vqvae: VQVAE, ranks: Ranks
) -> SampleReport:
    """Compare samples with real slices. Must be called by all ranks.

    Args:
        train: the training slices, at least two.
        test: real slices that are not in train, at least two.
        vqvae: its reconstructions of test show what the codes alone change.
    """
    statistics = measure_slices(samples, train, test, vqvae=vqvae, ranks=ranks)
    print_message(f"evaluate: looking for the nearest of {count_noun(len(train), 'training slice')} ...")
    nearest = {
        name: find_nearest(statistics[name], statistics["train"]) for name in ("test", "reconstructions", "samples")
    }
    report = {
        "samples": len(samples),
        "feature_distance": compare_features(statistics),
        "diversity": compare_diversity(samples, {"train": train, "test": test}, ranks),
        "copies": {**count_copies(nearest), "nearest": list_nearest(samples, train, nearest)},
        "grey_values": compare_grey_values(statistics),
        "power_spectrum": compare_spectra(statistics),
    }
    if not shows_pictures(train.manifest):
        report["anatomy_by_slice"] = compare_positions(statistics)
    if samples.depth:
        report["volumes"] = compare_volumes(samples, statistics, train, test, vqvae=vqvae, ranks=ranks)
    if effects := compare_conditions(samples, train, test, ranks):
        report["anatomy_by_condition"] = effects
    return SampleReport(report, statistics, nearest, samples, train)


def measure_slices(
    samples: SampleFolder, train: SplitLoader, test: SplitLoader, *, vqvae: VQVAE, ranks: Ranks
) -> dict[str, SliceStatistics]:
    """Return the statistics of train, test, the reconstructions of test, and the samples.

    Must be called by all ranks.
    """
    model, device = vqvae.to(ranks.device), ranks.device

    def measure(batch: Batch) -> SliceStatistics:
        return SliceStatistics.measure(to_images(batch.values.to(device)), batch.slice.numpy())

    def measure_with_reconstructions(batch: Batch) -> tuple[SliceStatistics, SliceStatistics]:
        recon = round_to_uint8(model.reconstruct(to_images(batch.values.to(device))))
        return measure(batch), SliceStatistics.measure(recon, batch.slice.numpy())

    def measure_samples(plan: MicroBatchPlan) -> SliceStatistics:
        numbers = plan.samples
        return SliceStatistics.measure(samples.read(numbers, train.manifest).to(device), samples.slice_numbers[numbers])

    plan = FixedBatchPlan(
        group_in_batches([len(samples)], test.batch_size), rank=ranks.rank, world_size=ranks.world_size
    )
    train_slices, test_slices = (
        show_pass(split.load_all(ranks), len(split), ranks, label=f"statistics of {split.name}", size=len)
        for split in (train, test)
    )
    train_parts = map_batches(ranks, train_slices, measure)
    test_parts, recon_parts = zip(*map_batches(ranks, test_slices, measure_with_reconstructions), strict=True)
    requests = show_pass(
        plan, len(samples), ranks, label="statistics of the samples", size=lambda request: len(request.samples)
    )
    sample_parts = map_batches(ranks, requests, measure_samples)
    parts = {"train": train_parts, "test": test_parts, "reconstructions": recon_parts, "samples": sample_parts}
    return {name: SliceStatistics.concatenate(batches) for name, batches in parts.items()}


def list_nearest(
    samples: SampleFolder, train: SplitLoader, nearest: Mapping[str, NearestSlices]
) -> list[dict[str, Any]]:
    """Return for each sample the key of the nearest training slice and the ratio of its distance to that of test."""
    found = nearest["samples"]
    return [
        {"file": path.name, "train": train.key(index), "mirror": mirror, "ratio": ratio}
        for path, index, mirror, ratio in zip(
            samples.paths,
            found.index.tolist(),
            found.mirror.tolist(),
            find_distance_ratios(nearest).tolist(),
            strict=True,
        )
    ]
