"""Sample whole volumes from a PixelCNN that reads the previous slice; all ranks sample, rank 0 writes.

The slices of a volume are drawn in order, each given the one before it. A volume depends on the seed and its number,
not on the number of ranks; rounding errors also depend on how many volumes are drawn together.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from vqdist.config.command_options import SampleOptions
from vqdist.data.sources.nifti_files import write_slices
from vqdist.data.sources.slice_affines import centred_affine
from vqdist.distributed.process_group import Ranks
from vqdist.foundation.errors import UserError, collect
from vqdist.foundation.json_validation import AffineRows
from vqdist.foundation.progress import ProgressBar, print_message
from vqdist.inference.sampling import (
    MAPS_PER_BATCH,
    SamplingJob,
    build_job,
    decode_slices,
    draw_noise,
    find_out_problems,
    read_models,
    write_on_main,
)
from vqdist.inference.work_sharing import map_in_rounds, run_on_main
from vqdist.models.io import ModelFiles
from vqdist.models.map_conditions import NO_CODE
from vqdist.plotting.image_grids import save_png
from vqdist.plotting.volume_views import build_views

MAX_SLICES = 2**20  # the noise of slice s of volume v has the number v * MAX_SLICES + s

SampledVolume = tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]  # codes (S, h, w) and slices (S, C, H, W)


@dataclass(frozen=True)
class VolumeJob:
    """The checked inputs of the sampling of volumes.

    Attributes:
        maps: the sampling of a slice of each volume: models, options and conditions of each volume.
        numbers: the slice numbers of a volume, from bottom to top.
        affine: from (row, column, slice number) to millimetres.
    """

    maps: SamplingJob
    numbers: range
    affine: AffineRows

    @property
    def count(self) -> int:
        """The number of volumes."""
        return self.maps.options.num

    def run(self, ranks: Ranks) -> None:
        """Sample, decode and write the volumes. Must be called by all ranks."""
        self.maps.prior.to(ranks.device)
        self.maps.vqvae.to(ranks.device)
        starts = range(ranks.rank * MAPS_PER_BATCH, self.count, ranks.world_size * MAPS_PER_BATCH)
        with ProgressBar(self.count * len(self.numbers), unit="slices", label="sample") as shown:
            batches = map_in_rounds(ranks, starts, lambda start: sample_volumes(self, start, shown))
            write_on_main(self.maps.options, batches, lambda folder: write_volumes(self, batches, folder), ranks)


def prepare_volume_sampling(options: SampleOptions, ranks: Ranks) -> VolumeJob:
    """Read and check the models and draw the conditions; nothing is written. Must be called by all ranks.

    Raises:
        ConfigError: every problem of the models, the conditions and the output folder.
    """
    assert options.volumes is not None, "use prepare_sampling for slices"
    maps = options.model_copy(update={"num": options.volumes})
    (job,) = collect(
        lambda: build_volume_job(maps, *run_on_main(ranks, lambda: read_models(options.prior, options.vqvae))),
        problems=run_on_main(ranks, lambda: find_out_problems(options)),
    )
    return job


def build_volume_job(options: SampleOptions, files: ModelFiles, vqvae_files: ModelFiles) -> VolumeJob:
    """Build the models and draw the conditions of every volume.

    Args:
        options: with `num` volumes.
    Raises:
        UserError: the options do not fit the PixelCNN, or it does not read the previous slice.
    """
    job = build_job(options, files, vqvae_files)
    if not job.prior.reads_previous:
        expected = "a prior that was trained with --model.context previous; --num draws single slices of this one"
        raise UserError.of(f"--volumes {options.volumes}", "a prior that draws each slice on its own", expected)
    numbers = {number for _, number, _ in files.conditions if number is not None}
    affine = files.card.data.affine or vqvae_files.card.data.affine
    if affine is None:
        affine = centred_affine(1.0, max(vqvae_files.image_size))
        print_message("the training data has no voxel sizes, which vqdist shard now stores: the volumes get 1 mm")
    return VolumeJob(job, range(min(numbers), max(numbers) + 1), affine)


def sample_volumes(job: VolumeJob, start: int, shown: ProgressBar) -> list[SampledVolume]:
    """Sample and decode the volumes from number `start` on, at most MAPS_PER_BATCH of them together."""
    maps = job.maps
    volumes = range(start, min(start + MAPS_PER_BATCH, job.count))
    h, w = maps.grid
    drawn = [torch.full((len(volumes), h, w), NO_CODE)]
    chosen = maps.conditions.select(volumes)
    for number in job.numbers:
        slices = None if chosen.slice is None else torch.full_like(chosen.slice, number)
        maps_of_noise = [volume // maps.combinations * MAX_SLICES + number for volume in volumes]
        noise = draw_noise(maps_of_noise, h * w, maps.prior.num_codes, maps.options.seed)
        drawn.append(maps.sample(noise, replace(chosen, slice=slices, previous=drawn[-1])).cpu())
        shown.advance(len(volumes))
    return [(volume.numpy(), decode_slices(maps, volume)) for volume in torch.stack(drawn[1:], dim=1)]


def write_volumes(job: VolumeJob, batches: Iterator[list[SampledVolume]], out: Path) -> None:
    """Write a NIfTI and three orthogonal views of each volume, codes.npy and samples.json into a folder."""
    codes: list[npt.NDArray[np.int64]] = []
    spacing = np.linalg.norm(np.array(job.affine)[:3, :3], axis=0).tolist()
    names: list[str] = []
    for batch in batches:
        for volume, slices in batch:
            names.append(f"volume-{len(names):05d}.nii.gz")
            write_slices(slices, job.affine, out / names[-1])
            images = torch.from_numpy(slices).float() / 255
            save_png(build_views(images, spacing), out / names[-1].replace(".nii.gz", ".png"))
            codes.append(volume)
    np.save(out / "codes.npy", np.stack(codes), allow_pickle=False)
    describe = job.maps.prior.spec.describe
    description = job.maps.describe() | {
        "slices": list(job.numbers),
        "volumes": [
            {"file": name, **describe(job.maps.conditions, index), "slice": None} for index, name in enumerate(names)
        ],
    }
    (out / "samples.json").write_text(json.dumps(description, indent=1) + "\n")
