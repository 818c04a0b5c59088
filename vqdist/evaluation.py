"""What `vqdist.evaluate` measures of a trained model on a split: the numbers of its report."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vqdist import metrics
from vqdist.baselines import SMOOTHING, Baselines, uniform_bits
from vqdist.data.loader import NO_NUMBER, Batch
from vqdist.data.manifest import Manifest
from vqdist.data.reader import ShardReader
from vqdist.errors import DataError, Problem, UserError
from vqdist.models.pixelcnn import PixelCNN
from vqdist.models.vqvae import VQVAE
from vqdist.passes import measure_split, on_main, open_split, read_batches, subjects_of, to_images
from vqdist.training.ranks import Ranks

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


def require_kind(data: str | Path, manifest: Manifest, kind: str, reason: str) -> None:
    """Raise DataError unless a data set is of a kind, images or codes."""
    if manifest.kind != kind:
        raise DataError.of(str(data), f"a data set of {manifest.kind}", f"one of {kind}: {reason}")


def vqvae_problems(model: VQVAE, data: str | Path, manifest: Manifest) -> list[Problem]:
    """Return why the images of a data set cannot go through a VQ-VAE."""
    problems = []
    if manifest.channels != model.channels:
        expected = f"{model.channels}, which the VQ-VAE was trained on"
        problems.append(Problem(f"{data}: channels", str(manifest.channels), expected))
    if any(side % model.downsample for side in manifest.image_size):
        size = " x ".join(map(str, manifest.image_size))
        problems.append(Problem(f"{data}: image size", size, f"multiples of the downsampling {model.downsample}"))
    return problems


def pixelcnn_problems(
    model: PixelCNN, vqvae_fingerprint: str | None, data: str | Path, manifest: Manifest
) -> list[Problem]:
    """Return why a set of codes is not one that a PixelCNN can judge.

    Args:
        vqvae_fingerprint: of the VQ-VAE whose codes the model was trained on; None where it is not known.
    """
    problems = []
    if manifest.num_codes != model.num_codes:
        expected = f"{model.num_codes}, as in the model"
        problems.append(Problem(f"{data}: num_codes", str(manifest.num_codes), expected))
    if None not in (vqvae_fingerprint, manifest.vqvae_fingerprint) and vqvae_fingerprint != manifest.vqvae_fingerprint:
        expected = f"those of the VQ-VAE of the model, {vqvae_fingerprint}"
        problems.append(Problem(f"{data}: VQ-VAE of the codes", str(manifest.vqvae_fingerprint), expected))
    for name, count, limit in (
        ("label", manifest.num_labels, model.num_labels),
        ("slice", manifest.num_slices, model.num_slices),
    ):
        if name in model.condition and not count:
            problems.append(Problem(f"{data}: {name}", "none", "one per sample: the model is conditioned on it"))
        elif name in model.condition and count is not None and count > limit:
            problems.append(Problem(f"{data}: {name}", f"numbers up to {count - 1}", f"up to {limit - 1}"))
    return problems


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
        usage.add_(metrics.count_codes(codes, model.num_codes))
        return metrics.compute_image_metrics(images, model.decode(codes))

    table = measure_split(ranks, reader, manifest, measure, batch_size=batch_size)
    usage = torch.stack(ranks.gather_objects(usage)).sum(dim=0)
    values = summarize(table, subjects_of(reader))
    rate = metrics.bits_per_pixel(uniform_bits(model.num_codes), model.grid(*manifest.image_size), manifest.image_size)
    values["perplexity"] = exactly(metrics.perplexity(usage))
    values["codes_used"] = exactly(metrics.codes_used(usage))
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
        return {"bits_per_code": metrics.code_bits(logits, batch.values)}

    table = measure_split(ranks, reader, manifest, measure, batch_size=batch_size)
    baselines, scores = on_main(ranks, lambda: score_baselines(data, manifest, split))
    table |= scores
    rate = metrics.bits_per_pixel(1.0, manifest.grid, manifest.image_size)
    values = summarize(table | {"bits_per_pixel": table["bits_per_code"] * rate}, subjects_of(reader))
    values["uniform_bits_per_code"] = exactly(uniform_bits(model.num_codes))
    report = build_report("pixelcnn", split, reader, values)
    report["baselines"] = {"unigram_smoothing": SMOOTHING, "position_weight": baselines.weight}
    return Evaluation(report, table)


def conditions_of(model: PixelCNN, batch: Batch) -> dict[str, Tensor]:
    """Return the conditions of a batch that a model wants.

    Raises:
        DataError: a sample carries none.
    """
    found = {"label": batch.label, "slice": batch.slice}
    wanted = {name: values for name, values in found.items() if name in model.condition}
    for name, values in wanted.items():
        for key, value in zip(batch.keys, values.tolist(), strict=True):
            if value == NO_NUMBER:
                raise DataError.of(f"sample {key}", f"no {name}", "one: the model is conditioned on it")
    return wanted


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
        summary[name] = metrics.bootstrap_subjects(values[kept], names)._asdict() if names else exactly(None)
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
