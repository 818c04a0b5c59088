"""What a stage is: how its model is built, the loss of a batch, and a preview. No device, no checkpoint, no logging.

To add a task: write these functions and name it in `get_task`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqdist.config.schema import RunConfig
from vqdist.data.loading.batch import NO_NUMBER, Batch, to_images
from vqdist.data.shards.manifest import Manifest
from vqdist.foundation.errors import DataError, Problem
from vqdist.foundation.seeds import derive_seed
from vqdist.metrics.images import MIN_SSIM_SIZE, compute_image_metrics
from vqdist.models.pixelcnn import PixelCNN
from vqdist.models.vqvae import VQVAE
from vqdist.plotting.image_grids import build_grid, build_pairs

PREVIEW_MAPS = 8


@dataclass(frozen=True)
class Losses:
    """What a batch tells.

    Attributes:
        terms: name -> (B,) value of each sample; "loss" is the one to minimise.
        codes: (B, h, w) int64 where the codebook's use is of interest, else None.
    """

    terms: dict[str, Tensor]
    codes: Tensor | None = None


@dataclass(frozen=True)
class Task:
    """A stage of the pipeline.

    Attributes:
        data_kind: of the data set that it trains on: `images` or `codes`.
        problems: (config, manifest) -> what of the two does not fit.
        build: (config, manifest, companion) -> the model, on the CPU, its weights drawn from the run's seed. The
            companion is the VQ-VAE that codes came from, or None.
        compute_losses: (model, batch, training) -> Losses; the model may be wrapped for DDP.
        preview: (model, batch, companion, seed) -> one picture of the batch's first samples, (C, height, width) uint8.
    """

    data_kind: str
    problems: Callable[[RunConfig, Manifest], list[Problem]]
    build: Callable[[RunConfig, Manifest, nn.Module | None], VQVAE | PixelCNN]
    compute_losses: Callable[..., Losses]
    preview: Callable[..., npt.NDArray[np.uint8]]


def get_task(name: str) -> Task:
    """Return the task that a configuration names."""
    return {"vqvae": VQVAE_TASK, "pixelcnn": PIXELCNN_TASK}[name]


def _vqvae_problems(config: RunConfig, manifest: Manifest) -> list[Problem]:
    factor = config.model.downsample  # type: ignore[attr-defined]
    size = " x ".join(map(str, manifest.image_size))
    problems = []
    if any(side % factor for side in manifest.image_size):
        expected = "a number that divides both sides"
        problems.append(Problem("model.downsample", f"{factor} for images of {size}", expected))
    crop = config.data.crop
    if crop is not None and not MIN_SSIM_SIZE <= crop <= min(manifest.image_size):
        expected = f"{MIN_SSIM_SIZE} to {min(manifest.image_size)} pixels, the window of SSIM and the images' side"
        problems.append(Problem("data.crop", str(crop), expected))
    if min(manifest.image_size) < MIN_SSIM_SIZE:
        expected = f"at least {MIN_SSIM_SIZE} pixels a side: the window of SSIM, which every evaluation measures"
        problems.append(Problem("data.path", f"images of {size}", expected))
    return problems


def _build_vqvae(config: RunConfig, manifest: Manifest, companion: nn.Module | None) -> VQVAE:
    variance = manifest.splits["train"].variance
    assert variance is not None, "image manifests carry it"
    torch.manual_seed(derive_seed(config.run.seed, "weights"))
    mean_variance = max(sum(variance) / len(variance), 1e-4)
    return VQVAE(manifest.channels, **config.model.model_dump(), data_variance=mean_variance, deferred=True)


def _vqvae_losses(model: nn.Module, batch: Batch, *, training: bool) -> Losses:
    images = to_images(batch.values)
    output = model(images, batch.positions)
    terms = dict(output.losses)
    if not training:
        terms |= compute_image_metrics(images, output.recon)
    return Losses(terms, output.codes)


def _vqvae_preview(model: nn.Module, batch: Batch, companion: nn.Module | None, seed: int) -> npt.NDArray[np.uint8]:
    """Originals above their reconstructions."""
    assert isinstance(model, VQVAE)
    images = to_images(batch.values[:PREVIEW_MAPS])
    return build_pairs(images, model.reconstruct(images), columns=PREVIEW_MAPS)


def _pixelcnn_problems(config: RunConfig, manifest: Manifest) -> list[Problem]:
    condition = config.model.condition  # type: ignore[attr-defined]
    problems = []
    for name, count in (("label", manifest.num_labels), ("slice", manifest.num_slices)):
        if name in condition and not count:
            problems.append(Problem("model.condition", f"{condition}; the codes carry no {name}", "what they carry"))
    return problems


def _build_pixelcnn(config: RunConfig, manifest: Manifest, companion: nn.Module | None) -> PixelCNN:
    assert manifest.num_codes is not None, "code manifests carry it"
    torch.manual_seed(derive_seed(config.run.seed, "weights"))
    known = {"num_labels": manifest.num_labels, "num_slices": manifest.num_slices}
    arguments = config.model.model_dump() | {name: count for name, count in known.items() if count}
    model = PixelCNN(manifest.num_codes, **arguments)
    if isinstance(companion, VQVAE):
        model.start_from_codebook(companion.quantizer.codebook.detach().cpu())
    return model


def _pixelcnn_losses(model: nn.Module, batch: Batch, *, training: bool) -> Losses:
    logits = model(batch.values, **conditions_of(model, batch))
    nats = F.cross_entropy(logits.float(), batch.values, reduction="none").flatten(1).mean(1)
    terms = {"loss": nats, "bits_per_code": nats.detach() / math.log(2)}
    if not training:
        terms["uniform_bits_per_code"] = torch.full_like(nats, math.log2(logits.shape[1]))
    return Losses(terms)


def conditions_of(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Return the conditions of a batch that a PixelCNN was built for.

    Raises:
        DataError: a sample carries none (told for batches on the CPU: an accelerator would have to be waited for).
    """
    inner: Any = getattr(model, "module", model)
    found = {"label": batch.label, "slice": batch.slice}
    wanted = {name: values for name, values in found.items() if name in inner.condition}
    for name, values in wanted.items():
        if values.device.type == "cpu" and (values == NO_NUMBER).any():
            key = batch.keys[int((values == NO_NUMBER).int().argmax())]
            raise DataError.of(f"sample {key}", f"no {name}", "one: the model is conditioned on it")
    return wanted


def _pixelcnn_preview(model: nn.Module, batch: Batch, companion: nn.Module | None, seed: int) -> npt.NDArray[np.uint8]:
    """Slices sampled from the prior, decoded by the VQ-VAE that its codes came from."""
    assert isinstance(model, PixelCNN)
    assert isinstance(companion, VQVAE)
    maps = min(PREVIEW_MAPS, len(batch))
    grid = (batch.values.shape[1], batch.values.shape[2])
    generator = torch.Generator().manual_seed(derive_seed(seed, "preview"))
    noise = -torch.empty(maps, grid[0] * grid[1], model.num_codes).exponential_(generator=generator).log()
    conditions = {name: values[:maps] for name, values in conditions_of(model, batch).items()}
    codes = model.sample(
        maps, grid, noise.to(batch.values.device), label=conditions.get("label"), slice=conditions.get("slice")
    )
    return build_grid(companion.decode(codes), columns=PREVIEW_MAPS)


VQVAE_TASK = Task("images", _vqvae_problems, _build_vqvae, _vqvae_losses, _vqvae_preview)
PIXELCNN_TASK = Task("codes", _pixelcnn_problems, _build_pixelcnn, _pixelcnn_losses, _pixelcnn_preview)
