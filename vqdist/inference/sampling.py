"""Sample code maps from a PixelCNN and decode them to slices: all ranks sample, rank 0 writes.

A slice depends only on the seed and on its number, not on the number of ranks or of slices. CUDA draws other noise from
a seed than a CPU.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vqdist.config.command_options import SampleOptions
from vqdist.distributed.process_group import Ranks
from vqdist.foundation.atomic_files import find_output_problems, output_folder, reporting_storage_errors
from vqdist.foundation.errors import Problem, UserError, collect
from vqdist.foundation.model_names import show_model_name
from vqdist.foundation.progress import ProgressBar, print_message
from vqdist.foundation.seeds import derive_seed
from vqdist.inference.class_labels import find_label, list_classes
from vqdist.inference.condition_words import read_words, split_words
from vqdist.inference.conditions import (
    Value,
    draw_conditions,
    find_untrained_label,
    find_untrained_slice,
    list_train_rows,
)
from vqdist.inference.prior_and_vqvae import read_prior_files
from vqdist.inference.saved_models import build_pixelcnn, build_vqvae, read_vqvae_files
from vqdist.inference.work_sharing import map_in_rounds, run_on_main
from vqdist.models.condition_spec import ConditionSpec
from vqdist.models.io import ModelFiles
from vqdist.models.map_conditions import MapConditions
from vqdist.models.model_card import DataDescription
from vqdist.models.pixelcnn import PixelCNN
from vqdist.models.sampling_options import SamplingOptions
from vqdist.models.vqvae import VQVAE
from vqdist.plotting.image_grids import save_grid, save_png, to_uint8

CPU = torch.device("cpu")
GRID_SLICES = 64
# Every batch has the same size, and surplus maps of the last one are discarded: floating-point results may depend on
# the batch size. A GPU samples many maps in about the time of one.
MAPS_PER_BATCH = 16
MAPS_PER_BATCH_ON_CUDA = 256
MAX_NOISE_BYTES = 2**31  # of a batch on CUDA
SLICES_DECODED_TOGETHER = 16  # the features of a decoder take more memory than those of the prior

DecodedMaps = tuple[Tensor, npt.NDArray[np.uint8]]  # codes (B, h, w) and slices (B, C, H, W)


@dataclass(frozen=True)
class SamplingJob:
    """The checked inputs of sampling: the models, the size (h, w) of the maps and the conditions of each map.

    Attributes:
        combinations: number of combinations of given values that the maps take in turn; those of one round have the
            same noise.
    """

    options: SampleOptions
    prior: PixelCNN
    vqvae: VQVAE
    vqvae_fingerprint: str
    grid: tuple[int, int]
    conditions: MapConditions
    combinations: int = 1

    def sample(self, noise: Tensor, conditions: MapConditions) -> Tensor:
        """Return the code maps of noise (B, h * w, K) and the conditions of the B maps: (B, h, w)."""
        options = self.options
        return self.prior.sample(
            *(len(noise), self.grid, noise, options.temperature, options.top_k),
            conditions=conditions,
            guidance=options.guidance,
        )

    def describe(self) -> dict[str, Any]:
        """Return the models and options as JSON values."""
        options = self.options
        return {
            "prior": show_model_name(options.prior),
            "vqvae_fingerprint": self.vqvae_fingerprint,
            "num": options.num,
            "num_codes": self.prior.num_codes,
            "grid": list(self.grid),
            "seed": options.seed,
            "temperature": options.temperature,
            "top_k": options.top_k,
            "guidance": options.guidance,
        }

    def run(self, ranks: Ranks) -> None:
        """Sample, decode and write the slices. Must be called by all ranks."""
        self.prior.to(ranks.device)
        self.vqvae.to(ranks.device)
        size = choose_batch_size(ranks.device, self.grid[0] * self.grid[1] * self.prior.num_codes)
        starts = range(ranks.rank * size, self.options.num, ranks.world_size * size)
        batches = map_in_rounds(ranks, starts, lambda start: sample_batch(self, start, size))
        write_on_main(self.options, batches, lambda folder: write_samples(self, batches, folder), ranks)


def write_on_main(options: SampleOptions, batches: Iterator[Any], write: Callable[[Path], None], ranks: Ranks) -> None:
    """Write the output folder on rank 0; the other ranks take part in the batches only.

    Args:
        write: takes all batches and writes into the folder that it is given.
    """
    if ranks.is_main:
        with reporting_storage_errors(options.out), output_folder(options.out, overwrite=options.overwrite) as folder:
            write(folder)
    else:
        for _ in batches:
            pass


def sample(options: SampleOptions, ranks: Ranks) -> None:
    """Sample, decode and write slices. Must be called by all ranks.

    Raises:
        ConfigError: every problem of the options, the models and the output folder.
    """
    (job,) = collect(lambda: prepare_sampling(options, ranks), problems=options.find_conflicts())
    job.run(ranks)


def prepare_sampling(options: SampleOptions, ranks: Ranks) -> SamplingJob:
    """Read and check the models and draw the conditions; nothing is written. Must be called by all ranks.

    Raises:
        ConfigError: every problem of the models, the conditions and the output folder.
    """
    assert options.volumes is None, "use prepare_volume_sampling for volumes"
    (job,) = collect(
        lambda: build_job(options, *run_on_main(ranks, lambda: read_models(options.prior, options.vqvae))),
        problems=run_on_main(ranks, lambda: find_out_problems(options)),
    )
    return job


def find_out_problems(options: SampleOptions) -> list[Problem]:
    """Return why the samples cannot be written."""
    return find_output_problems(f"--out {options.out}", options.out, overwrite=options.overwrite)


def read_models(prior: Path, vqvae: Path | None) -> tuple[ModelFiles, ModelFiles]:
    """Read a PixelCNN and a VQ-VAE; None: the one that is saved with the PixelCNN.

    Raises:
        UserError: the PixelCNN was trained on codes of another VQ-VAE.
    """
    (files, own), given = collect(
        lambda: read_prior_files(prior), lambda: None if vqvae is None else read_vqvae_files("--vqvae", vqvae)
    )
    if vqvae is None or given is None:
        return files, own
    found, expected = given.card.fingerprint, own.card.fingerprint
    if found != expected:
        raise UserError.of(
            f"--vqvae {show_model_name(vqvae)}", f"VQ-VAE {found}", f"{expected}, the VQ-VAE of the prior's codes"
        )
    return files, given


def build_job(options: SampleOptions, files: ModelFiles, vqvae_files: ModelFiles) -> SamplingJob:
    """Build the models and draw the conditions of every map.

    Raises:
        UserError: the options do not fit the PixelCNN.
    """
    prior, vqvae = build_pixelcnn(files), build_vqvae(vqvae_files)

    class_names = files.card.data.class_names
    sampling = SamplingOptions(temperature=options.temperature, top_k=options.top_k, guidance=options.guidance)
    chosen, *_ = collect(
        lambda: choose_conditions(options, prior.spec, files.card.data, class_names),
        lambda: sampling.check(options.num, files.grid, prior.num_codes),
        lambda: prior.spec.check_guidance(options.guidance),
    )
    return SamplingJob(options, prior, vqvae, vqvae_files.card.fingerprint, files.grid, *chosen)


def choose_conditions(
    options: SampleOptions, spec: ConditionSpec, data: DataDescription, class_names: Sequence[str]
) -> tuple[MapConditions, int]:
    """Return the conditions of every map, and how many combinations of values the maps take in turn.

    Raises:
        UserError: conditions that the model does not take or that do not occur; every problem.
    """
    if isinstance(options.label, str) and "label" not in spec.names:
        raise UserError.of("--label", repr(options.label), "none, as the prior is not conditioned on label")
    label = find_label(options.label, class_names)
    if label is not None and 0 <= label < len(class_names):
        print_message(f"label {label}: class {class_names[label]}")
    words = split_words(options.condition)
    given = read_words(words, spec, class_names, several=True, extrapolate=options.extrapolate)
    numbers = (("label", label), ("slice", options.slice))
    flags: dict[str, list[Value]] = {name: [value] for name, value in numbers if value is not None}
    wrong = [Problem(f"--{name}", f"also --condition {name}", "one of them") for name in flags if name in given]
    if wrong := [*wrong, *find_negative_numbers(flags, spec)]:
        raise UserError(wrong)
    given |= flags
    rows = list_train_rows(data, spec)
    conditions = draw_conditions(options.num, options.seed, given=given, spec=spec, rows=rows)
    if problems := spec.find_problems(options.num, conditions):
        names = class_names if "label" in spec.names else ()
        raise UserError([list_classes(problem, names) for problem in problems])
    problems = find_untrained_label(given.get("label", []), rows, class_names)
    if problems := problems + find_untrained_slice(given.get("slice", []), rows):
        raise UserError(problems)
    return conditions, math.prod(map(len, given.values()))


def find_negative_numbers(flags: Mapping[str, Sequence[Value]], spec: ConditionSpec) -> Iterator[Problem]:
    """Yield a problem for each negative label or slice number, which a prior that hides conditions takes as unknown."""
    limits = {"label": spec.num_labels, "slice": spec.num_slices}
    for name, (value,) in flags.items():
        if spec.hides and name in spec.names and value is not None and value < 0:
            yield Problem(name, str(value), f"a number in [0, {limits[name]}), or --condition {name}=unknown")


def choose_batch_size(device: torch.device, noise_per_map: int) -> int:
    """Return how many maps are sampled at once; it depends on the device and the size of a map only.

    Args:
        noise_per_map: number of values.
    """
    if device.type != "cuda":
        return MAPS_PER_BATCH
    return min(MAPS_PER_BATCH_ON_CUDA, max(MAX_NOISE_BYTES // (4 * noise_per_map), MAPS_PER_BATCH))


def draw_noise(maps: Sequence[int], size: int, num_codes: int, seed: int, device: torch.device = CPU) -> Tensor:
    """Return the Gumbel noise of maps, (B, size, K), on a device.

    The noise of a map depends only on the seed, its number and whether the device is CUDA, which draws other numbers
    from the same seed.

    Args:
        maps: number of each map.
        size: codes per map.
    """
    drawn_on = device if device.type == "cuda" else CPU
    noise = torch.empty(len(maps), size, num_codes, device=drawn_on)
    for row, index in zip(noise, maps, strict=True):
        row.uniform_(generator=torch.Generator(drawn_on).manual_seed(derive_seed(seed, "noise", index)))
    return noise.log_().neg_().log_().neg_().to(device)


def sample_batch(job: SamplingJob, start: int, size: int) -> DecodedMaps:
    """Sample and decode the maps from number `start` on."""
    options, maps = job.options, range(start, start + size)
    conditions = job.conditions.select([min(index, options.num - 1) for index in maps])
    device = job.prior.embedding.weight.device
    numbers = [index // job.combinations for index in maps]
    noise = draw_noise(
        numbers,
        job.grid[0] * job.grid[1],
        job.prior.num_codes,
        options.seed,
        device,
    )
    codes = job.sample(noise, conditions)
    kept = min(size, options.num - start)
    slices = decode_slices(job, codes[: -(-kept // SLICES_DECODED_TOGETHER) * SLICES_DECODED_TOGETHER])
    return codes[:kept].cpu(), slices[:kept]


def decode_slices(job: SamplingJob, codes: Tensor) -> npt.NDArray[np.uint8]:
    """Return the slices (B, C, H, W) of code maps (B, h, w)."""
    device = job.prior.embedding.weight.device
    parts = codes.split(SLICES_DECODED_TOGETHER)
    return np.concatenate([to_uint8(job.vqvae.decode(part.to(device))) for part in parts])


def write_samples(job: SamplingJob, batches: Iterator[DecodedMaps], out: Path) -> None:
    """Write a PNG of each slice, grid.png of the first ones, codes.npy and samples.json into a folder."""
    options = job.options
    codes: list[Tensor] = []
    first: list[npt.NDArray[np.uint8]] = []
    names: list[str] = []
    with ProgressBar(options.num, unit="slices", label="sample") as shown:
        for maps, slices in batches:
            codes.append(maps)
            first += list(slices[: GRID_SLICES - len(first)])
            for pixels in slices:
                names.append(f"sample-{len(names):05d}.png")
                save_png(pixels, out / names[-1])
            shown.advance(len(slices))
    columns = {} if job.combinations == 1 else {"columns": job.combinations}
    save_grid(torch.from_numpy(np.stack(first)).float() / 255, out / "grid.png", **columns)
    np.save(out / "codes.npy", torch.cat(codes).numpy(), allow_pickle=False)
    describe = job.prior.spec.describe
    description = job.describe() | {
        "samples": [{"file": name, **describe(job.conditions, index)} for index, name in enumerate(names)],
    }
    (out / "samples.json").write_text(json.dumps(description, indent=1) + "\n")
