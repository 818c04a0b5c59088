"""The figures of `vqdist evaluate`."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from vqdist.data.augmentation import mirror_images
from vqdist.data.loading.batch import to_images
from vqdist.evaluation.model_metrics import Evaluation
from vqdist.evaluation.samples.charts import draw_nearest_slices, draw_sample_report
from vqdist.evaluation.samples.comparison import SampleReport
from vqdist.inference.split_loader import SplitLoader
from vqdist.metrics.codes import perplexity
from vqdist.models.vqvae import VQVAE
from vqdist.plotting import vqvae_charts

SLICES_PER_RANK = 2  # of the best, median and worst
NEAREST_SAMPLES = 8


def draw_vqvae_figures(model: VQVAE, evaluation: Evaluation, split: SplitLoader, out: Path) -> list[Path]:
    """Draw the best, median and worst reconstructions of a split, and the use of the codebook."""
    ssim, counts = evaluation.values["ssim"], evaluation.code_counts
    assert counts is not None, "the evaluation of a VQ-VAE counts the codes"
    chosen = choose_slices(ssim)
    numbers = np.array([number for _, number in chosen], dtype=np.int64)
    batch = split.load(numbers)
    images = to_images(batch.values.to(next(model.parameters()).device))
    reconstructions = vqvae_charts.draw_reconstructions(
        images,
        model.reconstruct(images),
        ssim=ssim[numbers].tolist(),
        names=[f"{name}: {key}" for (name, _), key in zip(chosen, batch.keys, strict=True)],
        path=out / f"reconstructions-{split.name}.png",
    )
    codebook = vqvae_charts.draw_codebook_usage(
        counts, perplexity=perplexity(counts), split=split.name, path=out / f"codebook-{split.name}.png"
    )
    return [reconstructions, codebook]


def draw_rate_distortion(metrics: dict[str, dict[str, Any]], split: str, out: Path) -> Path:
    """Draw rate against distortion of several VQ-VAEs.

    Args:
        metrics: name of each model -> its metrics.
    """
    names = ("bits_per_pixel", "ssim", "ssim_brain")
    points = [
        {"name": model, **{name: found[name]["mean"] for name in names if name in found}}
        for model, found in metrics.items()
    ]
    return vqvae_charts.draw_rate_distortion(points, split=split, path=out / f"rates-{split}.png")


def choose_slices(ssim: np.ndarray) -> list[tuple[str, int]]:
    """Return (rank, number) of the best, median and worst slices, up to SLICES_PER_RANK of each."""
    order = np.argsort(-ssim, kind="stable")
    count = min(SLICES_PER_RANK, max(len(order) // 3, 1))
    middle = (len(order) - count) // 2
    places = {"best": range(count), "median": range(middle, middle + count), "worst": range(-count, 0)}
    return [(name, int(order[place])) for name, chosen in places.items() for place in chosen]


def draw_sample_figures(report: SampleReport, split: str, out: Path) -> list[Path]:
    """Draw the comparison of samples with real slices, and the samples that are most similar to a training slice."""
    nearest = report.nearest["samples"]
    closest = np.argsort(-nearest.whole, kind="stable")[:NEAREST_SAMPLES]
    batch = report.train.load(nearest.index[closest])
    mirrors = nearest.mirror[closest]
    with torch.inference_mode():
        samples = report.samples.read(closest, report.train.manifest)
        pairs = zip(to_images(batch.values), mirrors, strict=True)
        train = torch.stack([mirror_images(image, mirror) for image, mirror in pairs])
    suffixes = np.where(mirrors == "none", "", ", mirrored")
    return [
        draw_sample_report(
            report.report, report.statistics, report.nearest, split=split, path=out / f"samples-{split}.png"
        ),
        draw_nearest_slices(
            samples,
            train,
            similarities=nearest.whole[closest],
            limit=report.report["copies"]["limits"]["whole"],
            keys=[f"{key}{suffix}" for key, suffix in zip(batch.keys, suffixes, strict=True)],
            path=out / "samples-nearest.png",
        ),
    ]
