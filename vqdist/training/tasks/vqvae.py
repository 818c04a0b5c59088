"""Stage 1: a VQ-VAE on images. The codebook's learning, its restarts and its usage are handled here."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from vqdist.config.model_config import VQVAEConfig
from vqdist.config.schema import RunConfig
from vqdist.data.loading.batch import Batch, to_images
from vqdist.data.loading.pipeline import DataPipeline
from vqdist.data.shards.manifest import Manifest
from vqdist.distributed.process_group import Ranks
from vqdist.foundation.errors import Problem
from vqdist.foundation.seeds import derive_seed
from vqdist.metrics.codes import codes_used, count_brain_codes, count_codes, perplexity
from vqdist.metrics.images import MIN_SSIM_SIZE, brain_mask, compute_image_metrics
from vqdist.models.vqvae import VQVAE
from vqdist.plotting.image_grids import build_pairs
from vqdist.training.tasks.task import Losses, Task

PREVIEW_COLUMNS = 8
FIRST_CODES_BATCH = 16
FIRST_LATENTS_PER_CODE = 16
USAGE = "codebook/usage"
BRAIN_USAGE = "codebook/usage_brain"


class VQVAETask(Task):
    """Train a VQ-VAE (van den Oord et al. 2017)."""

    name = "vqvae"
    config_type = VQVAEConfig
    memory_format = torch.channels_last
    # About half of the loss is that of the codebook, which says nothing about the images.
    chosen_by = "image_loss"
    model: VQVAE

    @classmethod
    def find_problems(cls, config: RunConfig, manifest: Manifest) -> list[Problem]:
        assert isinstance(config.model, VQVAEConfig)
        size, smallest = " x ".join(map(str, manifest.image_size)), min(manifest.image_size)
        problems = []
        if advice := config.model.advise_size(manifest.image_size):
            problems.append(Problem("model.downsample", f"{config.model.downsample} for images of {size}", advice))
        crop = config.data.crop
        if isinstance(crop, int) and not MIN_SSIM_SIZE <= crop <= smallest:
            sides = f"{MIN_SSIM_SIZE} to {smallest} pixels: the window of SSIM to the side of the images"
            expected = f"{sides}; or null for whole images"
            problems.append(Problem("data.crop", str(crop), expected))
        if smallest < MIN_SSIM_SIZE:
            expected = f"at least {MIN_SSIM_SIZE} pixels a side, the window of SSIM"
            problems.append(Problem("data.path", f"images of {size}", expected))
        return problems

    def build(self) -> VQVAE:
        variance = self.manifest.splits["train"].variance
        assert variance is not None, "manifests of images have it"
        torch.manual_seed(derive_seed(self.config.run.seed, "weights"))
        mean_variance = max(sum(variance) / len(variance), 1e-4)
        keys = self.config.model.model_dump()
        self.model = VQVAE(self.manifest.channels, **keys, data_variance=mean_variance, deferred=True)
        self._usage = torch.zeros(self.model.num_codes, device=self.device)
        return self.model

    def hidden_weights(self) -> list[nn.Parameter]:
        return self.model.hidden_weights()

    def initialize(self, pipeline: DataPipeline, ranks: Ranks) -> None:
        """Take the first codes from the first samples of the order, which do not depend on the world size."""
        quantizer = self.model.quantizer
        if bool(quantizer.initialized):
            return
        if ranks.is_main:
            h, w = self.model.grid(*self.manifest.image_size)
            count = max(-(-FIRST_LATENTS_PER_CODE * quantizer.num_codes // (h * w)), self.config.data.global_batch_size)
            with torch.no_grad():
                latents = [
                    self.model.latents(to_images(batch.to(self.device).values)).permute(0, 2, 3, 1).flatten(0, 2)
                    for batch in pipeline.first_samples(count, FIRST_CODES_BATCH)
                ]
            quantizer.initialize(torch.cat(latents), self.config.run.seed)
        for tensor in (quantizer.codebook, quantizer.counts, quantizer.initialized):
            ranks.broadcast(tensor.data)

    def begin_step(self, step: int) -> None:
        self.model.quantizer.plan_restarts(self.config.run.seed, step, self.config.data.global_batch_size)

    def losses(self, model: nn.Module, batch: Batch, *, training: bool) -> Losses:
        images = to_images(batch.values)
        # Weights only where a sample is blank: the unweighted path is faster and needs no host synchronisation.
        weights = batch.weights if batch.num_samples < len(batch) else None
        output = model(images, batch.positions, weights)
        if training:
            return Losses(output.losses)
        image_loss = output.losses["loss"] - output.losses["codebook_loss"]
        terms = output.losses | {"image_loss": image_loss} | compute_image_metrics(images, output.recon)
        counts = {
            USAGE: count_codes(output.codes, self.model.num_codes),
            BRAIN_USAGE: count_brain_codes(output.codes, brain_mask(images), self.model.num_codes),
        }
        return Losses(terms, counts)

    def buffers_to_reduce(self) -> list[Tensor]:
        return self.model.quantizer.pending

    def end_step(self, finite: bool) -> None:
        quantizer = self.model.quantizer
        if finite:
            self._usage += quantizer.pending_counts.to(self._usage)
            quantizer.commit()
        else:
            quantizer.discard()

    def take_totals(self) -> dict[str, Tensor]:
        restarted = self.model.quantizer.restarted
        totals = {USAGE: self._usage.cpu().double(), "restarts": restarted.cpu().clone()}
        self._usage.zero_()
        restarted.zero_()
        return totals

    def metrics(self, totals: Mapping[str, Tensor]) -> dict[str, float]:
        metrics = {}
        if totals[USAGE].sum() > 0:
            metrics = {"perplexity": perplexity(totals[USAGE]), "codes_used": codes_used(totals[USAGE])}
        if BRAIN_USAGE in totals and totals[BRAIN_USAGE].sum() > 0:
            metrics["perplexity_brain"] = perplexity(totals[BRAIN_USAGE])
        if "restarts" in totals:
            metrics["restarts"] = totals["restarts"].item()
        return metrics

    def state(self) -> dict[str, Tensor]:
        return {"usage": self._usage, "restarts": self.model.quantizer.restarted}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        if "usage" in tensors:
            self._usage.copy_(tensors["usage"])
            self.model.quantizer.restarted.copy_(tensors.get("restarts", torch.tensor(0)))

    def preview(self, batch: Batch) -> npt.NDArray[np.uint8]:
        """Return originals above their reconstructions."""
        images = to_images(batch.values[:PREVIEW_COLUMNS])
        return build_pairs(images, self.model.reconstruct(images), columns=PREVIEW_COLUMNS)
