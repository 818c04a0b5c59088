"""Reconstruct pictures with a saved VQ-VAE.

from vqdist.inference.reconstruction import reconstruct_pictures
reconstruct_pictures("runs/vqvae_oasis", "my-pictures", "my-reconstructions")
"""

import shlex
from pathlib import Path
from typing import Any

import torch

from vqdist.data.loading.batch import to_images
from vqdist.data.sources.nifti_files import is_nifti
from vqdist.data.sources.pictures import load_picture, picture_extensions
from vqdist.data.sources.result_folders import find_overviews
from vqdist.data.sources.unsupported_formats import check_formats, explain_file, name_volumes
from vqdist.foundation.dataset_folder import is_dataset
from vqdist.foundation.errors import DataError, collect
from vqdist.foundation.progress import progress
from vqdist.foundation.run_status import is_run
from vqdist.inference.saved_models import build_vqvae
from vqdist.metrics.images import compute_image_metrics
from vqdist.metrics.means import Means
from vqdist.models.io import read_model_files
from vqdist.plotting.image_grids import save_grid, save_pairs

OVERVIEW = "reconstructions.png"
PAIRS_FOLDER = "pictures"
MAX_OVERVIEW_PICTURES = 64


def find_pictures(source: str | Path, *, dataset_option: str = "--data DATA") -> list[Path]:
    """Return the picture files in a folder and its subfolders, in path order; a path of a file is returned as it is.

    Grids, figures and maps that commands have written are left out.

    Args:
        dataset_option: takes a dataset instead of pictures, for the messages about volumes and datasets.
    Raises:
        DataError: no pictures, or the folder of a run or a dataset.
    """
    source = Path(source)
    _refuse_results(source, dataset_option)
    paths = [source] if source.is_file() else []
    names = {path: path.relative_to(source).as_posix() for path in source.rglob("*")}
    found = sorted(path for path in names if path.suffix.lower() in picture_extensions())
    overviews = find_overviews(names.values())
    paths = paths or [path for path in found if names[path] not in overviews]
    if all(path.suffix.lower() not in picture_extensions() for path in paths):
        _refuse_volumes(source, dataset_option)
    if not paths:
        missing = "no pictures" if source.is_dir() else "nothing"
        missing = f"only figures of slices, such as {found[0].name}" if found else missing
        raise DataError.of(str(source), missing, "a picture or a folder of pictures")
    return paths


def _refuse_results(source: Path, dataset_option: str) -> None:
    """Raise a DataError if a folder is a run, whose pictures are previews and charts, or a dataset."""
    if is_run(source):
        raise DataError.of(str(source), "the folder of a run", "a picture or a folder of pictures")
    if is_dataset(source):
        option = dataset_option.replace("DATA", shlex.quote(str(source)))
        raise DataError.of(
            str(source), "a dataset", f"a picture or a folder of pictures; for a dataset, give `{option}`"
        )


def _refuse_volumes(source: Path, dataset_option: str) -> None:
    """Raise a DataError if a file, or a file of a folder, is a volume, which is no picture."""
    files = [source] if source.is_file() else sorted(path for path in source.rglob("*") if path.is_file())
    for path in files:
        if (noun := name_volumes(path)) is None:
            continue
        if not is_nifti(path.name) and source.is_file():
            raise explain_file(source, "pictures", is_read=False)
        if not is_nifti(path.name):
            check_formats([file.relative_to(source).as_posix() for file in files], source)
        folder = source.parent if source.is_file() else source
        command = f"`vqdist shard {shlex.quote(str(folder))} DATA` and give `{dataset_option}`"
        raise DataError.of(
            str(source),
            noun if path == source else f"{noun}, such as {path.name}",
            f"pictures; for volumes, run {command}",
        )


def reconstruct_pictures(
    run: str | Path, source: str | Path, out: str | Path, *, device: str | torch.device = "cpu"
) -> dict[str, Any]:
    """Reconstruct pictures of any format and size, padded to a square and resized to the size of the training images.

    Args:
        run: run directory of the VQ-VAE, or the folder of a saved model.
        source: folder of pictures, or one picture.
        out: folder for `reconstructions.png`, the originals above their reconstructions, and for
            `pictures/NUMBER-NAME.png`, each original beside its reconstruction.
    Returns:
        The path of `reconstructions.png` and the mean metrics, as JSON values.
    Raises:
        UserError: the model or a picture cannot be read.
    """
    source, out = Path(source), Path(out)
    files, paths = collect(lambda: read_model_files(run, kind="vqvae"), lambda: find_pictures(source))
    model, size, means = build_vqvae(files).to(device), max(files.image_size), Means()
    pairs = []
    for index, path in enumerate(progress(paths, unit="pictures", label="reconstruct")):
        pixels = torch.tensor(load_picture(path, image_size=size, channels=model.channels))
        images = to_images(pixels[None].to(device))
        recon = model.reconstruct(images)
        means.add(compute_image_metrics(images, recon))
        pair = torch.cat([images, recon]).cpu()
        name = "-".join(path.relative_to(source).parts or [path.name])  # no parts: source is the picture
        save_grid(pair, out / PAIRS_FOLDER / f"{index:04d}-{Path(name).stem}.png")
        if index < MAX_OVERVIEW_PICTURES:
            pairs.append(pair)
    originals, recons = torch.stack(pairs).unbind(dim=1)
    overview = save_pairs(originals, recons, out / OVERVIEW)
    return {"task": "vqvae", "pictures": len(paths), "overview": str(overview), "metrics": means.compute()}
