"""Stage 2: a gated PixelCNN on the code maps of a VQ-VAE."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from vqdist.config.model_config import PixelCNNConfig
from vqdist.config.schema import RunConfig
from vqdist.data.loading.batch import NO_NUMBER, Batch
from vqdist.data.remote.download import is_url
from vqdist.data.shards.manifest import Manifest
from vqdist.foundation.errors import DataError, Problem
from vqdist.foundation.seeds import derive_seed
from vqdist.models.io import VQVAE_FOLDER, find_model, load_model
from vqdist.models.map_conditions import MapConditions
from vqdist.models.pixelcnn import PixelCNN
from vqdist.models.vqvae import VQVAE
from vqdist.plotting.image_grids import build_grid
from vqdist.training.tasks.task import Losses, Task

PREVIEW_MAPS = 8
MAX_SPARSE_LABELS = 1000  # label numbers that may occur whatever the number of samples
MAX_LABELS_PER_SAMPLE = 10


class PixelCNNTask(Task):
    """Train a gated PixelCNN (van den Oord et al. 2016)."""

    name = "pixelcnn"
    config_type = PixelCNNConfig
    model: PixelCNN

    def __init__(self, config: RunConfig, manifest: Manifest, data_dir: Path, device: torch.device) -> None:
        super().__init__(config, manifest, data_dir, device)
        self._vqvae: VQVAE | None = None

    @classmethod
    def find_problems(cls, config: RunConfig, manifest: Manifest) -> list[Problem]:
        assert isinstance(config.model, PixelCNNConfig)
        condition = config.model.condition
        missing = [
            Problem("model.condition", f"{condition}; the codes have no {name}", _describe_conditions(manifest))
            for name, count in (("label", manifest.num_labels), ("slice", manifest.num_slices))
            if name in condition and not count
        ]
        missing += _find_context_problems(config, manifest) if config.model.reads_previous else []
        return missing + (_find_label_problems(manifest) if "label" in condition else [])

    def build(self) -> PixelCNN:
        assert self.manifest.num_codes is not None, "manifests of codes have it"
        on_meta = torch.get_default_device().type == "meta"  # only names and shapes are wanted
        codebook = None if on_meta else self.vqvae.quantizer.codebook.detach().cpu()
        torch.manual_seed(derive_seed(self.config.run.seed, "weights"))
        counts = {"num_labels": self.manifest.num_labels, "num_slices": self.manifest.num_slices}
        keys = self.config.model.model_dump() | {name: count for name, count in counts.items() if count}
        self.model = PixelCNN(self.manifest.num_codes, **keys)
        if codebook is not None:
            self.model.start_from_codebook(codebook)
        return self.model

    @property
    def vqvae(self) -> VQVAE:
        """The VQ-VAE that encoded the dataset, on the device."""
        if self._vqvae is None:
            model = load_model(self.vqvae_dir).to(self.device)
            assert isinstance(model, VQVAE)
            self._vqvae = model
        return self._vqvae

    @property
    def vqvae_dir(self) -> Path:
        return find_model(self.data_dir / VQVAE_FOLDER)

    def hidden_weights(self) -> list[nn.Parameter]:
        return self.model.hidden_weights()

    def losses(self, model: nn.Module, batch: Batch, *, training: bool) -> Losses:
        logits = model(batch.values, conditions=conditions_of(self.model, batch))
        nats = F.cross_entropy(logits.float(), batch.values, reduction="none").flatten(1).mean(1)
        terms = {"loss": nats, "bits_per_code": nats.detach() / math.log(2)}
        if not training:
            terms["uniform_bits_per_code"] = torch.full_like(nats, math.log2(logits.shape[1]))
        return Losses(terms)

    def preview(self, batch: Batch) -> npt.NDArray[np.uint8]:
        """Return slices that the prior samples, decoded by the VQ-VAE."""
        num = min(PREVIEW_MAPS, len(batch))
        grid = (batch.values.shape[1], batch.values.shape[2])
        generator = torch.Generator().manual_seed(derive_seed(self.config.run.seed, "preview"))
        noise = -torch.empty(num, grid[0] * grid[1], self.model.num_codes).exponential_(generator=generator).log()
        conditions = conditions_of(self.model, batch).select(range(num))
        codes = self.model.sample(num, grid, noise.to(batch.values.device), conditions=conditions)
        return build_grid(self.vqvae.decode(codes), columns=PREVIEW_MAPS)


def _describe_conditions(manifest: Manifest) -> str:
    """Return the values of model.condition that a dataset of codes allows."""
    names = [name for name, count in (("label", manifest.num_labels), ("slice", manifest.num_slices)) if count]
    joined = ["label+slice"] if len(names) == 2 else []
    return f"a condition that the codes have: --model.condition {' or '.join(['none', *names, *joined])}"


def _find_context_problems(config: RunConfig, manifest: Manifest) -> list[Problem]:
    """Return why maps cannot be loaded together with the previous slice."""
    problems = []
    if not manifest.num_slices:
        expected = "codes of volumes, or of pictures with names such as case_012_slice_3.png; or --model.context none"
        problems.append(Problem("model.context", "previous; the codes have no slice numbers", expected))
    if config.data.path is not None and is_url(config.data.path):
        expected = "a folder: the previous slice may be in a shard that is not downloaded yet"
        problems.append(Problem("data.path", f"{config.data.path}, with model.context previous", expected))
    return problems


def _find_label_problems(manifest: Manifest) -> list[Problem]:
    """Return a problem if the labels are identifiers, such as 123456789: the model has weights for each number."""
    samples = manifest.splits["train"].samples if "train" in manifest.splits else 0
    count = manifest.num_labels or 0
    if count <= max(MAX_SPARSE_LABELS, MAX_LABELS_PER_SAMPLE * samples):
        return []
    found = (
        f"label; the labels of the data go up to {count - 1:,} for {samples:,} samples in train, so they are no classes"
    )
    expected = "labels that number the classes from 0 (KEY.cls or the label in KEY.json), or --model.condition none"
    return [Problem("model.condition", found, expected)]


def conditions_of(model: PixelCNN, batch: Batch) -> MapConditions:
    """Return the conditions of a batch that a model is conditioned on, and the previous maps if it reads them.

    Raises:
        DataError: a sample has none.
        UserError: the model has no such label or slice number.
    """
    on_cpu = batch.conditions_on_cpu.keep(model.condition)
    for name, values in on_cpu.tensors().items():
        if (missing := values == NO_NUMBER).any():
            key = batch.keys[int(missing.int().argmax())]
            raise DataError.of(f"sample {key}", f"no {name}", "one: the model is conditioned on it")
    if batch.host_conditions is not None:  # on a device, where the model does not check the ranges
        model.check_conditions(len(batch), on_cpu)
    return replace(batch.conditions.keep(model.condition), previous=batch.conditions.previous)
