"""Measure how similar completions are to the truth: SSIM in a square that is cut out of slices.

python launch/measure_completion.py PRIOR DATA OUT [--split validate] [--every 12] [--seed 0]

A square of a quarter of the side is cut out inside the brain of every n-th slice. It is completed by `vqdist complete`
with several settings, and by two references without a model: the mean of the training slices of the same number, and
the training slice that is most similar outside of the square; both are joined without a seam, as completions are.
Prints a table of the mean SSIM in the square with its standard error over the slices, the median and the best of the
completions of a slice, and writes it to OUT/completion.json.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from vqdist.config.slice_options import CompleteOptions
from vqdist.data.open_dataset import open_dataset
from vqdist.distributed.process_group import init_process_group
from vqdist.foundation.progress import print_message
from vqdist.foundation.seeds import derive_seed
from vqdist.inference.anomaly.training_slices import TrainingSlices
from vqdist.inference.completion import complete
from vqdist.inference.hole_filling import paste_without_seam
from vqdist.inference.slice_source import SliceSource, open_split
from vqdist.metrics.images import ssim_map

NUM = 4  # completions of each slice
SETTINGS: dict[str, dict[str, float | int]] = {
    "draws, temperature 1": {"draws": 1},
    "draws, 0.6": {"draws": 1, "temperature": 0.6},
    "draws, 0.3": {"draws": 1, "temperature": 0.3},
    "draws, 0.3, best 4 of 16 by bits": {"draws": 4, "temperature": 0.3},
    "means of 4 draws, 0.6": {"draws": 1, "temperature": 0.6, "average": 4},
    "means of 4 draws, 0.4": {"draws": 1, "temperature": 0.4, "average": 4},
    "means of 4 draws, 0.4, best 4 of 16 by bits": {"draws": 4, "temperature": 0.4, "average": 4},
}


def cut_squares(source: SliceSource, folder: Path, *, every: int, seed: int) -> list[int]:
    """Write every n-th slice with a square in its brain to pictures, and the masks to masks; return their numbers."""
    for name in ("pictures", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    chosen = []
    for index in range(0, len(source), every):
        info, pixels = source.infos[index], source.read(index)
        side = pixels.shape[-1] // 4
        inside = F.avg_pool2d(torch.from_numpy(pixels[:1] > 0).float(), side, stride=1)[0]
        places = (inside == 1).nonzero().numpy()
        if len(places):
            row, column = places[np.random.default_rng(derive_seed(seed, "square", info.key)).integers(len(places))]
            mask = np.zeros(pixels.shape[1:], np.bool_)
            mask[row : row + side, column : column + side] = True
            Image.fromarray(pixels[0]).save(folder / "pictures" / f"{info.key}.png")
            Image.fromarray(mask).save(folder / "masks" / f"{info.key}.png")
            chosen.append(index)
    return chosen


def measure_square(truth: Tensor, filled: Tensor, mask: npt.NDArray[np.bool_]) -> list[float]:
    """Return the mean SSIM in the square of each filled slice.

    Args:
        truth: (1, S, S) uint8.
        filled: (n, 1, S, S) uint8.
        mask: (S, S).
    """
    found = ssim_map(truth[None].expand(filled.shape).float() / 255, filled.float() / 255)[:, 0]
    return [float(value) for value in found[:, torch.from_numpy(mask)].mean(dim=1)]


def fill_by_references(image: Tensor, mask: Tensor, slices: Tensor) -> dict[str, Tensor]:
    """Return the slice (1, 1, S, S) uint8 with its square filled by each reference.

    Args:
        image: (1, S, S) uint8.
        mask: (S, S) bool.
        slices: training slices of the same number, (n, 1, S, S) uint8.
    """
    known, others = image[None].float() / 255, slices.float() / 255
    outside = ((others - known) * ~mask).square().sum(dim=(1, 2, 3))
    contents = {
        "mean of the training slices": others.mean(dim=0, keepdim=True),
        "most similar training slice": others[outside.argmin()][None],
    }
    return {name: (paste_without_seam(known, content, mask) * 255).round().byte() for name, content in contents.items()}


def summarise(values: Sequence[Sequence[float]]) -> dict[str, float]:
    """Return mean and standard error over the slices of the median, and the mean of the best, of their completions."""
    medians = np.median(values, axis=1)
    error = float(medians.std(ddof=1) / len(medians) ** 0.5) if len(medians) > 1 else float("nan")
    return {"median": float(medians.mean()), "error": error, "best": float(np.max(values, axis=1).mean())}


def measure(prior: Path, data: Path, out: Path, source: SliceSource, chosen: Sequence[int]) -> dict[str, Any]:
    """Complete the slices with every setting, and return the figures of all settings and references."""
    training = TrainingSlices.load(open_dataset(data))
    masks = [np.array(Image.open(out / "masks" / f"{source.infos[index].key}.png")) for index in chosen]
    found: dict[str, list[list[float]]] = {}
    for index, mask in zip(chosen, masks, strict=True):
        truth, info = torch.tensor(source.read(index)), source.infos[index]
        slices = training.near(info.slice, 0, without=info.subject)
        for name, filled in fill_by_references(truth, torch.from_numpy(mask), slices).items():
            found.setdefault(name, []).append(measure_square(truth, filled, mask))
    for name, setting in SETTINGS.items():
        folder = out / name.replace(", ", "-").replace(" ", "-")
        words: dict[str, Any] = {"prior": prior, "pictures": out / "pictures", "mask": out / "masks", "out": folder}
        options = CompleteOptions(**words, num=NUM, overwrite=True, **setting)
        complete(options, init_process_group(options.device))
        for index, mask in zip(chosen, masks, strict=True):
            files = [folder / f"{source.infos[index].key}-{place}.png" for place in range(NUM)]
            filled = torch.stack([torch.from_numpy(np.array(Image.open(file)))[None] for file in files])
            found.setdefault(name, []).append(measure_square(torch.tensor(source.read(index)), filled, mask))
    return {name: summarise(values) for name, values in found.items()}


def main(prior: Path, data: Path, out: Path, *, split: str = "validate", every: int = 12, seed: int = 0) -> None:
    """Cut squares, fill them in every way, and write and print the figures."""
    source = open_split(data, split, channels=1)
    chosen = cut_squares(source, out, every=every, seed=seed)
    found = measure(prior, data, out, source, chosen)
    (out / "completion.json").write_text(json.dumps({"slices": len(chosen), "ssim": found}, indent=1) + "\n")
    lines = [f"{f'SSIM in the square, {len(chosen)} slices':<46}{'median':>8}{'error':>8}{'best':>8}"]
    for name, figures in found.items():
        lines.append("".join([f"{name:<46}", *(f"{figures[key]:>8.3f}" for key in ("median", "error", "best"))]))
    print_message("\n".join(lines))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("prior", "data", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--split", default="validate")
    parser.add_argument("--every", type=int, default=12, help="cut a square out of every n-th slice")
    parser.add_argument("--seed", type=int, default=0)
    main(**vars(parser.parse_args()))
