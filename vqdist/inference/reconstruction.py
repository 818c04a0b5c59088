"""A user's own pictures through a saved VQ-VAE.

from vqdist.inference.reconstruction import reconstruct_pictures
reconstruct_pictures("runs/vqvae_oasis", "my-pictures", "my-reconstructions")
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vqdist.data.sources.pictures import load_picture, picture_extensions
from vqdist.foundation.errors import CheckpointError, DataError
from vqdist.metrics.images import compute_image_metrics
from vqdist.metrics.means import Means
from vqdist.models.io import ModelFiles, build_model, read_model_files
from vqdist.models.vqvae import VQVAE
from vqdist.plotting.image_grids import save_grid, save_pairs

OVERVIEW = "reconstructions.png"
EACH = "pictures"
OVERVIEW_PICTURES = 64


def find_pictures(source: str | Path) -> list[Path]:
    """Return the pictures in a folder, below it too, in the order of their paths; or the one picture itself.

    Raises:
        DataError: nothing there, or no picture in it.
    """
    source = Path(source)
    if source.is_file():
        return [source]
    paths = sorted(path for path in source.rglob("*") if path.suffix.lower() in picture_extensions())
    if not paths:
        raise DataError.of(
            str(source), "no pictures" if source.is_dir() else "nothing", "a picture or a folder of them"
        )
    return paths


def load_pictures(source: str | Path, *, image_size: int = 256, channels: int = 1) -> Tensor:
    """Read pictures of any format and size, padded to a square and resized.

    Args:
        source: a folder or one file.
        image_size: pixels a side.
        channels: 1 (grey) or 3.
    Returns:
        (N, C, image_size, image_size) in [0, 1], in the order of find_pictures.
    Raises:
        DataError: no pictures, or one that cannot be read; it is named.
    """
    paths = find_pictures(source)
    return torch.stack([_load(path, image_size, channels) for path in paths])


def reconstruct_pictures(
    run: str | Path, source: str | Path, out: str | Path, *, device: str | torch.device = "cpu"
) -> dict[str, Any]:
    """Reconstruct pictures one by one and write them beside their originals.

    Args:
        run: of the VQ-VAE, or its saved model's folder.
        source: a folder of pictures or one file.
        out: folder for `reconstructions.png` (originals above) and, in `pictures/`, for each the two side by side,
            named after its place below the source.
    Returns:
        The files and the mean metrics, as JSON values.
    """
    files = read_model_files(run, kind="vqvae")
    return reconstruct_found(files, find_pictures(source), Path(source), Path(out), device=device)


def reconstruct_found(
    files: ModelFiles, paths: Sequence[Path], source: Path, out: Path, *, device: str | torch.device = "cpu"
) -> dict[str, Any]:
    """Do what `reconstruct_pictures` does, with the model's files and the pictures' paths at hand."""
    model = build_model(files).to(device)
    assert isinstance(model, VQVAE)
    size, means = read_image_size(files), Means()
    shown = []
    for index, path in enumerate(paths):
        images = _load(path, size, model.channels)[None].to(device)
        recon = model.reconstruct(images)
        means.add(compute_image_metrics(images, recon))
        name = "-".join(path.relative_to(source).parts or [path.name])  # no parts: the one picture itself
        save_grid(torch.cat([images, recon]), out / EACH / f"{index:04d}-{Path(name).stem}.png")
        shown += [torch.cat([images, recon]).cpu()] * (index < OVERVIEW_PICTURES)
    originals, recon = torch.stack(shown).unbind(dim=1)
    overview = save_pairs(originals, recon, out / OVERVIEW)
    return {"task": "vqvae", "pictures": len(paths), "overview": str(overview), "metrics": means.compute()}


def read_image_size(files: ModelFiles) -> int:
    """Return the longer side of the images that a model was trained on, in pixels."""
    match files.config.get("image_size"):
        case [int(height), int(width)] if height > 0 and width > 0:
            return max(height, width)
        case found:
            where = f"{files.folder / 'config.json'}: image_size"
            raise CheckpointError.of(where, repr(found)[:80], "two positive numbers, H and W")


def _load(path: Path, image_size: int, channels: int) -> Tensor:
    return torch.from_numpy(np.array(load_picture(path, image_size=image_size, channels=channels))).float() / 255
