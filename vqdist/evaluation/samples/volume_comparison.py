"""Compare sampled volumes with real ones. "test" holds the real volumes of the evaluated split."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from vqdist.data.augmentation import AXES
from vqdist.data.loading.batch import to_images
from vqdist.data.orientation import shows_pictures
from vqdist.distributed.process_group import Ranks
from vqdist.evaluation.pass_progress import show_pass
from vqdist.evaluation.samples.sample_folder import SampleFolder
from vqdist.evaluation.samples.slice_statistics import SliceStatistics
from vqdist.evaluation.samples.volume_statistics import VolumeStatistics, measure_drift
from vqdist.inference.split_loader import SplitLoader
from vqdist.inference.work_sharing import map_batches
from vqdist.metrics.images import round_to_uint8
from vqdist.models.vqvae import VQVAE

SLICES_PER_PASS = 16
NEAR_COPY = 0.5  # of the median distance of real volumes that are not in train

Thumbnail = npt.NDArray[np.float32]  # (THUMBNAIL, THUMBNAIL)
Volume = list[int]  # numbers of its slices, from bottom to top


def compare_volumes(
    samples: SampleFolder,
    statistics: Mapping[str, SliceStatistics],
    train: SplitLoader,
    test: SplitLoader,
    *,
    vqvae: VQVAE,
    ranks: Ranks,
) -> dict[str, Any]:
    """Return how well sampled volumes hold together, as JSON values. Must be called by all ranks.

    Args:
        statistics: of the slices of "train", "test" and "samples".
    """
    volumes = {"train": train.list_volumes(), "test": test.list_volumes(), "samples": samples.list_volumes()}
    model, codes, device = vqvae.to(ranks.device), samples.read_codes(), ranks.device

    def measure_sample(number: int) -> list[VolumeStatistics]:
        images = samples.read(np.array(volumes["samples"][number]), train.manifest)
        return [VolumeStatistics.measure(images, None if codes is None else torch.from_numpy(codes[number]))]

    def measure_real(number: int) -> list[VolumeStatistics]:
        images = to_images(test.load(np.array(volumes["test"][number])).values)
        found = [model.encode(part.to(device)) for part in images.split(SLICES_PER_PASS)]
        recon = round_to_uint8(torch.cat([model.decode(part).cpu() for part in found]))
        real_codes = torch.cat(found).cpu()
        return [VolumeStatistics.measure(images, real_codes), VolumeStatistics.measure(recon, real_codes)]

    parts = {"samples": _map(measure_sample, len(volumes["samples"]), ranks, "sampled volumes")}
    found = _map(measure_real, len(volumes["test"]), ranks, "real volumes")
    parts |= {"test": [pair[:1] for pair in found], "reconstructions": [pair[1:] for pair in found]}
    neighbours = {
        name: VolumeStatistics.concatenate([one for (one,) in measured]).describe()
        for name, measured in parts.items()
        if measured
    }
    if shows_pictures(train.manifest):
        neighbours = {
            name: {figure: value for figure, value in found.items() if figure != "flips"}
            for name, found in neighbours.items()
        }
    return {
        "neighbours": neighbours,
        "drift": measure_drift(statistics),
        "copies": count_volume_copies(statistics, volumes),
    }


def _map(
    work: Callable[[int], list[VolumeStatistics]], count: int, ranks: Ranks, label: str
) -> list[list[VolumeStatistics]]:
    numbers = range(ranks.rank, count, ranks.world_size)
    shown = show_pass(numbers, count, ranks, label=label, unit="volumes", size=lambda _: 1)
    return map_batches(ranks, shown, work)


def count_volume_copies(
    statistics: Mapping[str, SliceStatistics], volumes: Mapping[str, Sequence[Volume]]
) -> dict[str, Any]:
    """Return the distances of whole volumes to the nearest training volume, and the number of near copies.

    The distance is the root mean square difference of the thumbnails of all slices with the same number; the training
    volume is compared as it is and mirrored. A volume is a near copy below NEAR_COPY times the median of test. Volumes
    that have no slice number in common with a training volume are left out.
    """
    train = [_read_thumbnails(statistics["train"], volume) for volume in volumes["train"]]
    nearest = {
        name: np.array([_find_nearest(_read_thumbnails(statistics[name], volume), train) for volume in volumes[name]])
        for name in ("test", "samples")
    }
    nearest = {name: distances[np.isfinite(distances)] for name, distances in nearest.items()}
    reference = float(np.median(nearest["test"])) if len(nearest["test"]) else None
    report: dict[str, Any] = {"threshold": None if reference is None else NEAR_COPY * reference}
    for name, distances in nearest.items():
        report[name] = {
            "median": float(np.median(distances)) if len(distances) else None,
            "smallest": float(distances.min()) if len(distances) else None,
            "near_copies": None if reference is None else int((distances < NEAR_COPY * reference).sum()),
            "volumes": len(distances),
        }
    return report


def _read_thumbnails(statistics: SliceStatistics, volume: Volume) -> dict[int, Thumbnail]:
    """Return slice number -> thumbnail."""
    numbers = statistics.slice_numbers[volume].tolist()
    images = statistics.thumbnails[volume].astype(np.float32) / 255
    return dict(zip(numbers, images, strict=True))


def _find_nearest(volume: Mapping[int, Thumbnail], train: Sequence[Mapping[int, Thumbnail]]) -> float:
    """Return the distance of a volume to the nearest of others; infinite if none has a slice in common."""
    nearest = math.inf
    for other in train:
        common = sorted(volume.keys() & other.keys())
        if common:
            own, found = (np.stack([thumbnails[number] for number in common]) for thumbnails in (volume, other))
            views = [found, *(np.flip(found, axis) for axis in AXES.values())]
            nearest = min(nearest, *(float(np.sqrt(((own - view) ** 2).mean(dtype=np.float64))) for view in views))
    return nearest
