"""Reconstruct a NIfTI volume slice by slice, and write the reconstruction with the header of the volume."""

from pathlib import Path
from typing import Any

import torch

from vqdist.data.loading.batch import to_images
from vqdist.data.sources.nifti_files import is_nifti, write_like
from vqdist.data.sources.volumes import SlicedVolume, open_volume
from vqdist.foundation.progress import progress
from vqdist.inference.reconstruction import OVERVIEW
from vqdist.inference.saved_models import build_vqvae
from vqdist.metrics.images import compute_image_metrics
from vqdist.metrics.means import Means
from vqdist.models.io import read_model_files
from vqdist.models.vqvae import VQVAE
from vqdist.plotting.image_grids import save_pairs

SLICES_PER_PASS = 16
OVERVIEW_SLICES = 16


def is_volume(path: Path) -> bool:
    """Return whether a path is a file that is named like a NIfTI volume."""
    return is_nifti(path.name) and path.is_file()


def reconstruct_volume(
    run: str | Path, source: Path, out: Path, *, device: str | torch.device = "cpu"
) -> dict[str, Any]:
    """Reconstruct all axial slices of a volume.

    Args:
        run: run directory of the VQ-VAE, or the folder of a saved model.
        source: a .nii or .nii.gz.
        out: folder for `NAME-reconstructed.nii.gz`, which has the header of the source, and for `reconstructions.png`.
    Returns:
        The paths and the mean metrics of the slices that are not black, as JSON values.
    Raises:
        UserError: the model or the volume cannot be read.
    """
    files = read_model_files(run, kind="vqvae")
    model = build_vqvae(files).to(device)
    volume = open_volume(source, image_size=max(files.image_size))
    slices, recon = _reconstruct(model, volume, device)
    means, shown = Means(), slices.flatten(1).any(dim=1)
    for part in shown.nonzero()[:, 0].split(SLICES_PER_PASS):
        means.add(compute_image_metrics(slices[part], recon[part]))
    values = volume.restore_values(recon.mean(dim=1).numpy(), 0)
    name = source.name[: source.name.lower().rindex(".nii")]
    path = write_like(values, source, out / f"{name}-reconstructed{source.name[len(name) :]}")
    chosen = shown.nonzero()[:, 0]
    chosen = chosen[torch.linspace(0, len(chosen) - 1, min(OVERVIEW_SLICES, len(chosen))).long()]
    overview = save_pairs(slices[chosen], recon[chosen], out / OVERVIEW)
    count = int(shown.sum())
    return {
        "task": "vqvae",
        "pictures": count,
        "overview": str(overview),
        "volume": str(path),
        "metrics": means.compute(),
    }


def _reconstruct(model: VQVAE, volume: SlicedVolume, device: str | torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return all slices of a volume and their reconstructions, (S, C, H, W) in [0, 1] each."""
    slices, recon = [], []
    depth = volume.frame.planes[2]
    for start in progress(range(0, depth, SLICES_PER_PASS), unit="batches", label="reconstruct"):
        pixels = volume.slices(range(start, min(start + SLICES_PER_PASS, depth)))
        images = to_images(torch.from_numpy(pixels))[:, None].repeat(1, model.channels, 1, 1)
        slices.append(images)
        recon.append(model.reconstruct(images.to(device)).cpu())
    return torch.cat(slices), torch.cat(recon)
