"""Complete slices with a region missing: resample its codes and decode them; all ranks work, rank 0 writes.

Candidate c for a slice is the mean of the decoded draws from c * average on; the completions are the candidates with
the fewest bits. They depend only on the seed and the slice, not on the number of ranks or of slices.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from vqdist.config.slice_options import CompleteOptions
from vqdist.distributed.process_group import Ranks
from vqdist.foundation.atomic_files import output_folder, reporting_storage_errors
from vqdist.foundation.errors import DataError, Problem, check_option, collect
from vqdist.foundation.model_names import show_model_name
from vqdist.foundation.progress import ProgressBar, count_noun
from vqdist.inference.conditions import list_train_rows
from vqdist.inference.hole_filling import fill_hole, paste_without_seam
from vqdist.inference.mask_files import find_masks, read_mask
from vqdist.inference.picture_frame import PictureFrame
from vqdist.inference.prior_and_vqvae import MAPS_PER_PASS, PriorAndVQVAE, read_prior_and_conditions
from vqdist.inference.sampling import draw_noise
from vqdist.inference.slice_conditions import choose_conditions
from vqdist.inference.slice_source import SliceSource, open_slices, shorten
from vqdist.inference.slice_warnings import report_conditions
from vqdist.inference.work_sharing import map_in_rounds, run_on_main
from vqdist.models.map_conditions import MapConditions
from vqdist.models.sampling_options import SamplingOptions
from vqdist.plotting.image_grids import save_grid, save_png, to_uint8

GRID_SLICES = 16  # rows of grid.png
HOLE_GREY = 0.5

Noise = Callable[[range], Tensor]  # numbers of maps -> their Gumbel noise, (B, h * w, K)


@dataclass(frozen=True)
class Completed:
    """The completions of one slice, the one with the fewest bits first.

    Attributes:
        pictures: (num, C, H, W) uint8, in the size of the slice.
        codes: (num, average, h, w) of the draws of each completion.
        bits: (num,) of the whole maps, the mean over the draws of a completion.
        preview: (1 + num, C, image_size, image_size) uint8: the slice with its hole, and the completions.
    """

    pictures: npt.NDArray[np.uint8]
    codes: npt.NDArray[np.int64]
    bits: list[float]
    preview: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class CompletionJob:
    """The checked inputs of a completion.

    Attributes:
        masks: path of the mask of each slice.
    """

    options: CompleteOptions
    models: PriorAndVQVAE
    slices: SliceSource
    conditions: MapConditions
    masks: list[Path]

    def run(self, ranks: Ranks) -> int:
        """Complete and write all slices; return their number. Must be called by all ranks."""
        self.models.to(ranks.device)
        h, w = self.models.grid
        noise = partial(draw_noise, size=h * w, num_codes=self.models.prior.num_codes, seed=self.options.seed)
        # The slices share the noise. It is kept if one pass has all maps, and otherwise drawn again to save memory.
        work = partial(complete_slice, self, lru_cache(maxsize=1)(noise))
        completed = map_in_rounds(ranks, range(ranks.rank, len(self.slices), ranks.world_size), work)
        if ranks.is_main:
            out, overwrite = self.options.out, self.options.overwrite
            with reporting_storage_errors(out), output_folder(out, overwrite=overwrite) as folder:
                write_completions(self, completed, folder)
        else:
            for _ in completed:
                pass
        return len(self.slices)


def complete(options: CompleteOptions, ranks: Ranks) -> int:
    """Complete slices and write the results; return the number of slices. Must be called by all ranks.

    Raises:
        ConfigError: every problem of the options, the model, the slices, the masks and the output folder.
    """
    (job,) = collect(lambda: prepare_completion(options, ranks), problems=options.find_conflicts())
    return job.run(ranks)


def prepare_completion(options: CompleteOptions, ranks: Ranks) -> CompletionJob:
    """Read and check the inputs; nothing is written. Must be called by all ranks.

    Raises:
        ConfigError: every problem of the model, the slices, the masks and the output folder.
    """
    files, given, _ = read_prior_and_conditions(options, ranks)
    models = PriorAndVQVAE.build(files)
    sampling = SamplingOptions(temperature=options.temperature, top_k=options.top_k)
    channels = models.vqvae.channels
    slices, _ = collect(
        lambda: open_slices(options, options.mask, channels=channels, without=[options.mask]),
        lambda: sampling.check(options.num, models.grid, models.prior.num_codes),
    )
    conditions, masks = collect(
        lambda: choose_conditions(models.prior, slices.infos, models.read_conditions(given), models.class_names),
        lambda: run_on_main(ranks, lambda: list_masks(options, slices)),
    )
    report_conditions(conditions, models.prior.spec, list_train_rows(files[0].card.data, models.prior.spec))
    return CompletionJob(options, models, slices, conditions, masks)


def list_masks(options: CompleteOptions, slices: SliceSource) -> list[Path]:
    """Return the mask of each slice, after reading all of them.

    Raises:
        DataError: slices without a mask; masks that are unreadable, black or of another size.
    """
    names = [info.source if options.pictures is not None else info.key for info in slices.infos]
    masks = check_option("--mask", options.mask, lambda: find_masks(options.mask, names, within=options.pictures))
    missing = [name for name, mask in zip(names, masks, strict=True) if mask is None]
    if missing:
        found = f"no mask of {len(missing)} of {count_noun(len(names), 'slice')}, for example {missing[0]}"
        raise DataError.of(f"--mask {options.mask}", found, "a mask for each slice, named like it")
    paths = [mask for mask in masks if mask is not None]
    problems: list[Problem] = []
    for number, path in enumerate(paths):
        try:
            if not read_mask(path, slices.read(number).shape[1:]).any():
                problems.append(Problem(str(path), "no white pixel", "white where the slice is to be filled in"))
        except DataError as error:
            problems += error.problems
    if problems:
        raise DataError(shorten(problems))
    return paths


def complete_slice(job: CompletionJob, noise: Noise, number: int) -> Completed:
    """Draw completions of a slice and return the most likely ones.

    The hole is filled smoothly before the slice is encoded, because the codes next to it depend on its pixels too.
    """
    options, models, path = job.options, job.models, job.masks[number]
    pixels = job.slices.read(number)
    mask = read_mask(path, pixels.shape[1:])
    frame = PictureFrame(mask.shape, models.image_size)
    image, hole = frame.to_model(pixels)[None].to(models.device), frame.mask_to_model(mask).to(models.device)
    codes = models.vqvae.encode(fill_hole(image, hole))
    keep = ~F.max_pool2d(hole[None].float(), models.vqvae.downsample).bool()
    known = models.add_previous(job.conditions.select([number]), job.slices, [number])
    draws = draw_completions(job, codes, keep, noise, known)
    bits = models.count_bits(draws, known.repeat(len(draws))).double().sum(dim=(1, 2))
    bits = bits.view(-1, options.average).mean(dim=1)
    best = bits.argsort(stable=True)[: options.num]
    kept = draws.unflatten(0, (-1, options.average))[best]
    decoded = decode_means(models, kept)
    pictures = paste_pixels(pixels, frame.from_model(decoded), mask)
    preview = torch.cat([torch.where(hole, HOLE_GREY, image), paste_without_seam(image, decoded, hole)])
    return Completed(pictures, kept.cpu().numpy(), bits[best].tolist(), to_uint8(preview))


def draw_completions(job: CompletionJob, codes: Tensor, keep: Tensor, noise: Noise, known: MapConditions) -> Tensor:
    """Return the code maps of all draws for a slice: (num * draws * average, h, w).

    Args:
        codes, keep: (1, h, w).
        known: conditions of the slice.
    """
    options = job.options
    draws: list[Tensor] = []
    particles = options.particles
    maps = range(options.num * options.draws * options.average * particles)
    step = max(MAPS_PER_PASS // particles, 1) * particles
    for start in maps[::step]:
        part = maps[start : start + step]
        count = len(part) // particles
        size = (count, *codes.shape[1:])
        given = (codes.expand(size), keep.expand(size), noise(part))
        chosen = (options.temperature, options.top_k)
        draws.append(job.models.prior.complete(*given, *chosen, conditions=known.repeat(count), particles=particles))
    return torch.cat(draws)


def decode_means(models: PriorAndVQVAE, codes: Tensor) -> Tensor:
    """Return the mean of the decoded draws of each completion, (num, C, image_size, image_size).

    Only `num` maps are decoded at a time.

    Args:
        codes: (num, average, h, w).
    """
    total = models.vqvae.decode(codes[:, 0])
    for index in range(1, codes.shape[1]):
        total += models.vqvae.decode(codes[:, index])
    return total / codes.shape[1]


def paste_pixels(pixels: npt.NDArray[np.uint8], content: Tensor, mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Return the pixels (C, H, W) of a slice with each content (B, C, H, W) of the hole, and no others changed."""
    image = torch.tensor(pixels).float()[None] / 255
    joined = to_uint8(paste_without_seam(image, content.cpu(), torch.from_numpy(mask)))
    return np.where(mask, joined, pixels)


def write_completions(job: CompletionJob, completed: Iterable[Completed], out: Path) -> None:
    """Write NAME-0.png ..., NAME-codes.npy of each slice, grid.png of the first ones and, last, completions.json."""
    options = job.options
    described: list[dict[str, Any]] = []
    rows: list[npt.NDArray[np.uint8]] = []
    with ProgressBar(len(job.slices), unit="slices", label="complete") as shown:
        for number, result in enumerate(completed):
            info = job.slices.infos[number]
            names = [f"{info.key}-{place}.png" for place in range(options.num)]
            for name, pixels in zip(names, result.pictures, strict=True):
                save_png(pixels, out / name)
            codes = result.codes[:, 0] if options.average == 1 else result.codes
            np.save(out / f"{info.key}-codes.npy", codes, allow_pickle=False)
            if number < GRID_SLICES:
                rows.append(result.preview)
            files = [{"file": name, "bits": bits} for name, bits in zip(names, result.bits, strict=True)]
            about = {"key": info.key, "source": info.source, "mask": str(job.masks[number])}
            described.append(about | job.models.prior.spec.describe(job.conditions, number) | {"completions": files})
            shown.advance(1)
    grid = torch.from_numpy(np.concatenate(rows)).float() / 255
    save_grid(grid, out / "grid.png", columns=1 + options.num)
    description = {
        "prior": show_model_name(options.prior),
        "seed": options.seed,
        "temperature": options.temperature,
        "top_k": options.top_k,
        "draws": options.draws,
        "average": options.average,
        "particles": options.particles,
        "slices": described,
    }
    (out / "completions.json").write_text(json.dumps(description, indent=1) + "\n")
