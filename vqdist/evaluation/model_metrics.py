"""What `vqdist.evaluate` measures of a trained model on a split: the numbers of its report."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vqdist.data.loading.batch import Batch, to_images
from vqdist.data.shards.manifest import Manifest
from vqdist.data.shards.reader import ShardReader
from vqdist.distributed.process_group import Ranks
from vqdist.evaluation.code_baselines import SMOOTHING, Baselines, uniform_bits
from vqdist.foundation.errors import UserError
from vqdist.inference.batches import measure_split, on_main, open_split, read_batches, subjects_of
from vqdist.inference.compatibility import pixelcnn_problems, require_kind, vqvae_problems
from vqdist.metrics.codes import bits_per_pixel, code_bits, codes_used, count_codes, perplexity
from vqdist.metrics.images import compute_image_metrics
from vqdist.metrics.intervals import bootstrap_subjects
from vqdist.models.pixelcnn import PixelCNN
from vqdist.models.vqvae import VQVAE
from vqdist.training.tasks.pixelcnn import conditions_of

Table = dict[str, npt.NDArray[np.float64]]
BASELINE_BATCH = 256


@dataclass(frozen=True)
class Evaluation:
    """The report of a split, and the values behind it.

    Attributes:
        report: the JSON object that the command writes.
        table: name -> (N,) value of each sample, in the split's order.
        usage: (K,) how often each code occurs in the split; None for a prior.
    """

    report: dict[str, Any]
    table: Table
    usage: Tensor | None = None


def evaluate_vqvae(
    model: VQVAE, data: str | Path, manifest: Manifest, *, split: str, ranks: Ranks, batch_size: int
) -> Evaluation:
    """Measure the reconstructions of a split and the use of the codebook.

    Collective: all ranks.
    Raises:
        UserError: the data set does not fit the model, or is damaged.
    """
    require_kind(data, manifest, "images", "a VQ-VAE is evaluated on images")
    if problems := vqvae_problems(model, data, manifest):
        raise UserError(problems)
    reader = open_split(data, manifest, split)
    model = model.to(ranks.device)
    usage = torch.zeros(model.num_codes, dtype=torch.int64)

    def measure(batch: Batch) -> dict[str, Tensor]:
        images = to_images(batch.values)
        codes = model.encode(images)
        usage.add_(count_codes(codes, model.num_codes))
        return compute_image_metrics(images, model.decode(codes))

    table = measure_split(ranks, reader, manifest, measure, batch_size=batch_size)
    usage = torch.stack(ranks.gather_objects(usage)).sum(dim=0)
    values = summarize(table, subjects_of(reader))
    rate = bits_per_pixel(uniform_bits(model.num_codes), model.grid(*manifest.image_size), manifest.image_size)
    values["perplexity"] = exactly(perplexity(usage))
    values["codes_used"] = exactly(codes_used(usage))
    values["bits_per_pixel"] = exactly(rate)
    return Evaluation(build_report("vqvae", split, reader, values), table, usage)


def evaluate_pixelcnn(
    model: PixelCNN,
    data: str | Path,
    manifest: Manifest,
    *,
    vqvae_fingerprint: str | None,
    split: str,
    ranks: Ranks,
    batch_size: int,
) -> Evaluation:
    """Measure the bits per code of a split, teacher-forced, beside those of the baselines of its train split.

    Collective: all ranks.
    Raises:
        UserError: the data set does not fit the model, is damaged, or has an empty train or validate split.
    """
    require_kind(data, manifest, "codes", "a PixelCNN is evaluated on codes, see vqdist.encode")
    if problems := pixelcnn_problems(model, vqvae_fingerprint, data, manifest):
        raise UserError(problems)
    assert manifest.grid is not None, "code manifests carry it"
    reader = open_split(data, manifest, split)
    model = model.to(ranks.device)

    def measure(batch: Batch) -> dict[str, Tensor]:
        logits = model(batch.values, **conditions_of(model, batch))
        return {"bits_per_code": code_bits(logits, batch.values)}

    table = measure_split(ranks, reader, manifest, measure, batch_size=batch_size)
    baselines, scores = on_main(ranks, lambda: score_baselines(data, manifest, split))
    table |= scores
    rate = bits_per_pixel(1.0, manifest.grid, manifest.image_size)
    values = summarize(table | {"bits_per_pixel": table["bits_per_code"] * rate}, subjects_of(reader))
    values["uniform_bits_per_code"] = exactly(uniform_bits(model.num_codes))
    report = build_report("pixelcnn", split, reader, values)
    report["baselines"] = {"unigram_smoothing": SMOOTHING, "position_weight": baselines.weight}
    return Evaluation(report, table)


def score_baselines(data: str | Path, manifest: Manifest, split: str) -> tuple[Baselines, Table]:
    """Count the baselines on train, mix them on validate, and return each sample's bits per code on a split."""
    assert manifest.num_codes is not None, "code manifests carry it"

    def maps(name: str) -> Iterator[npt.NDArray[np.int64]]:
        reader = open_split(data, manifest, name)
        return (batch.values.numpy() for batch in read_batches(reader, manifest, batch_size=BASELINE_BATCH))

    baselines = Baselines.fit(maps("train"), maps("validate"), num_codes=manifest.num_codes)
    bits = [(baselines.unigram_bits(codes), baselines.position_bits(codes)) for codes in maps(split)]
    unigram, position = (np.concatenate(parts) for parts in zip(*bits, strict=True))
    return baselines, {"unigram_bits_per_code": unigram, "position_bits_per_code": position}


def summarize(table: Table, subjects: list[str]) -> dict[str, dict[str, float | None]]:
    """Return mean and interval over subjects of each column; slices without brain have no `_brain` value."""
    summary: dict[str, dict[str, float | None]] = {}
    for name, values in table.items():
        kept = ~np.isnan(values) if name.endswith("_brain") else np.ones(len(values), bool)
        names = [subject for subject, keep in zip(subjects, kept, strict=True) if keep]
        summary[name] = bootstrap_subjects(values[kept], names)._asdict() if names else exactly(None)
    return summary


def exactly(value: float | None) -> dict[str, float | None]:
    """Return a figure of the whole split, which has no interval."""
    return {"mean": value, "low": None, "high": None}


def build_report(
    task: str, split: str, reader: ShardReader, values: dict[str, dict[str, float | None]]
) -> dict[str, Any]:
    """Return the JSON object of `vqdist.evaluate`."""
    subjects = len(set(subjects_of(reader)))
    return {"task": task, "split": split, "samples": len(reader), "subjects": subjects, "metrics": values}
