"""New slices from a prior: which conditions and noise each map gets, drawing on all ranks, and the files.

What map i becomes hangs on the seed and i alone: not on the ranks, nor on how many maps are drawn.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vqdist.config.command_options import SampleOptions
from vqdist.distributed.process_group import Ranks
from vqdist.foundation.atomic_files import reporting_storage_errors, write_access_problems
from vqdist.foundation.errors import CheckpointError, Problem, UserError, collect
from vqdist.foundation.progress import ProgressBar
from vqdist.foundation.seeds import derive_seed
from vqdist.inference.batches import gather_outcomes, on_main
from vqdist.inference.conditions import Conditions, draw_conditions
from vqdist.models.io import ModelFiles, build_model, fingerprint_of, read_model_files
from vqdist.models.pixelcnn import PixelCNN
from vqdist.models.sampler import SamplingOptions
from vqdist.models.vqvae import VQVAE
from vqdist.plotting.image_grids import save_grid, save_png, to_uint8

GRID_SLICES = 64
NAMED_CLASSES = 20
# Maps drawn together, always so many, the last ones discarded: a map's numbers may hang on how many it is drawn with.
MAPS_AT_ONCE = 16

Drawn = tuple[Tensor, npt.NDArray[np.uint8]]  # codes (B, h, w) and pictures (B, C, H, W)


@dataclass(frozen=True)
class Pair:
    """A prior, the VQ-VAE that its codes came from, and what is to be drawn."""

    prior: PixelCNN
    vqvae: VQVAE
    vqvae_fingerprint: str
    grid: tuple[int, int]
    conditions: Conditions


def sample(options: SampleOptions, ranks: Ranks, problems: Sequence[Problem] = ()) -> None:
    """SamplingOptions, decode and write the slices.

    Args:
        options: of `vqdist.sample`.
    Collective: all ranks.
    """
    blocked = on_main(ranks, lambda: write_access_problems("--out", options.out, folder=True))
    (pair,) = collect(
        lambda: load_pair(options, *on_main(ranks, lambda: read_pair(options))), problems=[*problems, *blocked]
    )
    rounds = draw_rounds(pair, options, ranks)
    if ranks.is_main:
        with reporting_storage_errors(options.out):
            write_samples(options, pair, rounds)
    else:
        for _ in rounds:
            pass


def read_pair(options: SampleOptions) -> tuple[ModelFiles, ModelFiles]:
    """Read the prior and its VQ-VAE, or the one that is asked for.

    Raises:
        UserError: the VQ-VAE is not the one of the prior's codes.
    """

    def read_prior() -> tuple[ModelFiles, ModelFiles]:
        files = read_model_files(options.prior, kind="pixelcnn")
        return files, read_model_files(files.folder / "vqvae", kind="vqvae")

    def read_asked() -> ModelFiles | None:
        return None if options.vqvae is None else read_model_files(options.vqvae, kind="vqvae")

    (files, own), asked = collect(read_prior, read_asked)
    if asked is None:
        return files, own
    found, expected = fingerprint_of(asked), fingerprint_of(own)
    if found != expected:
        raise UserError.of(f"--vqvae {options.vqvae}", f"VQ-VAE {found}", f"the one of the prior's codes, {expected}")
    return files, asked


def load_pair(options: SampleOptions, files: ModelFiles, vqvae_files: ModelFiles) -> Pair:
    """Build both models and choose the conditions of every map.

    Raises:
        UserError: what is asked does not fit the prior.
    """
    prior, vqvae = build_model(files), build_model(vqvae_files)
    assert isinstance(prior, PixelCNN)
    assert isinstance(vqvae, VQVAE)
    grid = read_grid(files)
    asked = {"label": options.label, "slice": options.slice}
    table, where = files.config.get("conditions"), f"{files.folder / 'config.json'}: conditions"
    names = files.config.get("class_names") if "label" in prior.condition else None

    def choose() -> Conditions:
        conditions = draw_conditions(
            options.num, options.seed, asked=asked, condition=prior.condition, table=table, where=where
        )
        try:
            prior.check_conditions(options.num, conditions.label, conditions.slice)
        except UserError as error:
            raise UserError([name_classes(problem, names) for problem in error.problems]) from error
        return conditions

    draw = SamplingOptions(temperature=options.temperature, top_k=options.top_k)
    conditions, _ = collect(choose, lambda: draw.check(options.num, grid, prior.num_codes))
    return Pair(prior, vqvae, fingerprint_of(vqvae_files), grid, conditions)


def name_classes(problem: Problem, names: object) -> Problem:
    """Return a problem of the label with the classes that there are, where the prior knows their names."""
    if problem.where != "label" or not isinstance(names, list) or not names:
        return problem
    listed = ", ".join(f"{label} {name}" for label, name in enumerate(names[:NAMED_CLASSES]))
    return replace(problem, expected=f"{problem.expected}: {listed}{', ...' * (len(names) > NAMED_CLASSES)}")


def read_grid(files: ModelFiles) -> tuple[int, int]:
    """Return the size (h, w) of the maps that a prior was trained on."""
    match files.config.get("grid"):
        case [int(h), int(w)] if h > 0 and w > 0:
            return h, w
        case found:
            where = f"{files.folder / 'config.json'}: grid"
            raise CheckpointError.of(where, repr(found)[:80], "two positive numbers, h and w")


def draw_noise(maps: Sequence[int], size: int, num_codes: int, seed: int) -> Tensor:
    """Return the Gumbel noise of some maps, (B, size, K); a map's noise hangs on the seed and its number alone."""
    noise = torch.empty(len(maps), size, num_codes)
    for row, index in zip(noise, maps, strict=True):
        row.uniform_(generator=torch.Generator().manual_seed(derive_seed(seed, "noise", index)))
    return noise.log_().neg_().log_().neg_()


def draw_rounds(pair: Pair, options: SampleOptions, ranks: Ranks) -> Iterator[Drawn]:
    """Yield codes (B, h, w) and pictures (B, C, H, W) uint8, in the order of the maps, on every rank.

    A round is one batch of maps for each rank. Collective: all ranks, each must take every item.
    """
    prior, vqvae = pair.prior.to(ranks.device), pair.vqvae.to(ranks.device)
    starts = range(0, options.num, MAPS_AT_ONCE)
    for first in range(0, len(starts), ranks.world_size):
        this_round = starts[first : first + ranks.world_size]

        def work(this_round: range = this_round) -> Drawn | None:
            if ranks.rank >= len(this_round):
                return None
            return draw_batch(prior, vqvae, pair, options, this_round[ranks.rank])

        yield from (batch for batch in gather_outcomes(ranks, work) if batch is not None)


def draw_batch(prior: PixelCNN, vqvae: VQVAE, pair: Pair, options: SampleOptions, start: int) -> Drawn:
    """Draw and decode the maps from a number on."""
    maps = range(start, start + MAPS_AT_ONCE)
    asked = [min(index, options.num - 1) for index in maps]
    h, w = pair.grid
    noise = draw_noise(maps, h * w, prior.num_codes, options.seed)
    with torch.inference_mode():
        codes = prior.sample(
            MAPS_AT_ONCE, pair.grid, noise, options.temperature, options.top_k, **pair.conditions.of(asked)
        )
        pictures = to_uint8(vqvae.decode(codes))
    kept = min(MAPS_AT_ONCE, options.num - start)
    return codes[:kept].cpu(), pictures[:kept]


def write_samples(options: SampleOptions, pair: Pair, rounds: Iterator[Drawn]) -> None:
    """Write a PNG for each slice, a grid of the first ones, the codes, and what they are; samples.json comes last."""
    clear_samples(options.out)
    codes: list[Tensor] = []
    first: list[npt.NDArray[np.uint8]] = []
    names: list[str] = []
    with ProgressBar(options.num, unit="slices", label="sample") as shown:
        for maps, pictures in rounds:
            codes.append(maps)
            first += list(pictures[: GRID_SLICES - len(first)])
            for picture in pictures:
                names.append(f"sample-{len(names):05d}.png")
                save_png(picture, options.out / names[-1])
            shown.advance(len(pictures))
    save_grid(torch.from_numpy(np.stack(first)).float() / 255, options.out / "grid.png")
    np.save(options.out / "codes.npy", torch.cat(codes).numpy(), allow_pickle=False)
    told = {
        "prior": str(options.prior),
        "vqvae_fingerprint": pair.vqvae_fingerprint,
        "num": options.num,
        "num_codes": pair.prior.num_codes,
        "grid": list(pair.grid),
        "seed": options.seed,
        "temperature": options.temperature,
        "top_k": options.top_k,
        "samples": [{"file": name, **pair.conditions.describe(index)} for index, name in enumerate(names)],
    }
    (options.out / "samples.json").write_text(json.dumps(told, indent=1) + "\n")


def clear_samples(out: Path) -> None:
    """Make the folder and remove what an earlier start of this command left there, and nothing else."""
    out.mkdir(parents=True, exist_ok=True)
    for name in ("samples.json", "grid.png", "codes.npy"):
        (out / name).unlink(missing_ok=True)
    for path in out.glob("sample-[0-9]*.png"):
        path.unlink()
