"""The figures that `vqdist.evaluate` draws beside its numbers."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from vqdist.data.loading.batch import to_images
from vqdist.data.mirror import mirror_images
from vqdist.data.shards.manifest import Manifest
from vqdist.data.shards.reader import ShardReader
from vqdist.evaluation.model_metrics import Evaluation
from vqdist.evaluation.samples.charts import draw_neighbours, draw_realism
from vqdist.evaluation.samples.report import Realism
from vqdist.evaluation.samples.sample_folder import SampleFolder
from vqdist.inference.batches import read_batch
from vqdist.metrics.codes import perplexity
from vqdist.models.vqvae import VQVAE
from vqdist.plotting import vqvae_charts as charts
from vqdist.plotting.curves import draw_losses

SHOWN_OF_EACH = 2
SHOWN_NEIGHBOURS = 8


def illustrate_run(run: Path, out: Path) -> list[Path]:
    """Draw a run's loss curves; nothing for a saved model without its run."""
    record = run / "metrics.jsonl"
    return [draw_losses(record, out / "losses.png")] if record.is_file() else []


def illustrate_vqvae(
    model: VQVAE, evaluation: Evaluation, data: str | Path, manifest: Manifest, *, split: str, out: Path
) -> list[Path]:
    """Draw the best, median and worst reconstructions of a split, and the codebook's use."""
    reader = ShardReader(data, manifest, split)
    ssim = evaluation.table["ssim"]
    chosen = choose_slices(ssim)
    batch = read_batch(reader, manifest, [number for _, number in chosen])
    images = to_images(batch.values.to(next(model.parameters()).device))
    names = [f"{word}: {key}" for (word, _), key in zip(chosen, batch.keys, strict=True)]
    shown = [ssim[number] for _, number in chosen]
    drawn = charts.draw_reconstructions(
        images, model.reconstruct(images), ssim=shown, names=names, path=out / f"reconstructions-{split}.png"
    )
    assert evaluation.usage is not None, "a VQ-VAE's evaluation counts its codes"
    usage, path = evaluation.usage, out / f"codebook-{split}.png"
    return [drawn, charts.draw_codebook(usage, perplexity=perplexity(usage), split=split, path=path)]


def illustrate_rates(metrics: dict[str, dict[str, Any]], *, split: str, out: Path) -> Path:
    """Draw rate against distortion of several VQ-VAEs, given the metrics of each by its name."""
    names = ("bits_per_pixel", "ssim", "ssim_brain")
    points = [
        {"name": run, **{name: found[name]["mean"] for name in names if name in found}}
        for run, found in metrics.items()
    ]
    return charts.draw_rates(points, split=split, path=out / f"rates-{split}.png")


def choose_slices(ssim: np.ndarray) -> list[tuple[str, int]]:
    """Return (word, number) of the best, median and worst slices, SHOWN_OF_EACH of each where there are enough."""
    order = np.argsort(-ssim, kind="stable")
    each = min(SHOWN_OF_EACH, max(len(order) // 3, 1))
    middle = (len(order) - each) // 2
    places = {"best": range(each), "median": range(middle, middle + each), "worst": range(-each, 0)}
    return [(word, int(order[place])) for word, spots in places.items() for place in spots]


def illustrate_samples(
    realism: Realism, folder: SampleFolder, data: str | Path, *, split: str, out: Path
) -> list[Path]:
    """Draw the report on samples, and those that come closest to a training slice beside it."""
    nearest = realism.nearest["samples"]
    closest = np.argsort(nearest.distance, kind="stable")[:SHOWN_NEIGHBOURS]
    reader = ShardReader(data, folder.manifest, "train")
    batch = read_batch(reader, folder.manifest, nearest.index[closest])
    ratios = nearest.distance[closest] / max(float(np.median(realism.nearest["test"].distance)), 1e-12)
    with torch.inference_mode():
        samples, neighbours = folder.read(closest), to_images(batch.values)
    mirrors = nearest.mirror[closest]
    neighbours = torch.stack([mirror_images(image, how) for image, how in zip(neighbours, mirrors, strict=True)])
    words = np.where(mirrors == "none", "", ", mirrored")
    keys = [f"{key}{word}" for key, word in zip(batch.keys, words, strict=True)]
    return [
        draw_realism(realism.report, realism.digests, realism.nearest, out / f"samples-{split}.png"),
        draw_neighbours(samples, neighbours, ratios=ratios, keys=keys, path=out / "samples-nearest.png"),
    ]
