"""Metrics of a trained model on a split, as `vqdist evaluate` reports them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vqdist.data.loading.batch import Batch, to_images
from vqdist.data.open_dataset import Dataset
from vqdist.data.orientation import shows_pictures
from vqdist.distributed.process_group import Ranks
from vqdist.evaluation.code_baselines import BASELINES, SMOOTHING, CodeBaselines, uniform_bits
from vqdist.evaluation.conditional_prior import measure_attributes
from vqdist.evaluation.context_counts import CodeMaps
from vqdist.evaluation.membership import choose_train_samples, measure_membership
from vqdist.evaluation.neighbour_baseline import NeighbourBaseline, Pair
from vqdist.evaluation.sample_measures import SampleValues, measure_samples
from vqdist.evaluation.untrained_classes import UntrainedClasses
from vqdist.foundation.progress import print_message
from vqdist.inference.split_loader import SplitLoader
from vqdist.inference.work_sharing import run_on_main
from vqdist.metrics.codes import (
    bits_per_pixel,
    code_bits,
    codes_used,
    count_brain_codes,
    count_codes,
    perplexity,
)
from vqdist.metrics.confidence_intervals import Summary, paired_difference, subject_interval, to_summary
from vqdist.metrics.images import brain_mask, compute_image_metrics
from vqdist.metrics.means import find_measured
from vqdist.models.pixelcnn import PixelCNN
from vqdist.models.vqvae import VQVAE
from vqdist.training.tasks.conditions import conditions_of

BASELINE_BATCH_SIZE = 256


@dataclass(frozen=True)
class Evaluation:
    """The metrics of a model on a split.

    Attributes:
        report: JSON values.
        values: metrics of each sample.
        code_counts: (K,) occurrences of each code in the split; None for a PixelCNN.
    """

    report: dict[str, Any]
    values: SampleValues
    code_counts: Tensor | None = None


def evaluate_vqvae(model: VQVAE, split: SplitLoader, ranks: Ranks) -> Evaluation:
    """Measure the reconstructions of a split and the use of the codebook. Must be called by all ranks.

    The `_brain` metrics of pictures that are no brains are None.
    """
    model, manifest = model.to(ranks.device), split.manifest
    counts, brain_counts = torch.zeros(2, model.num_codes, dtype=torch.int64)

    def measure(batch: Batch) -> dict[str, Tensor]:
        images = to_images(batch.values)
        codes = model.encode(images)
        counts.add_(count_codes(codes, model.num_codes))
        brain_counts.add_(count_brain_codes(codes, brain_mask(images), model.num_codes))
        return compute_image_metrics(images, model.decode(codes))

    values = measure_samples(split, measure, ranks)
    counts, brain_counts = torch.stack(ranks.gather_objects(torch.stack([counts, brain_counts]))).sum(dim=0)
    subjects = split.subjects()
    metrics = summarize(values, subjects)
    rate = bits_per_pixel(uniform_bits(model.num_codes), model.grid(*manifest.image_size), manifest.image_size)
    metrics["perplexity"] = without_interval(perplexity(counts))
    metrics["perplexity_brain"] = without_interval(perplexity(brain_counts) if brain_counts.any() else None)
    metrics["codes_used"] = without_interval(codes_used(counts))
    metrics["bits_per_pixel"] = without_interval(rate)
    if shows_pictures(manifest):
        metrics |= {name: without_interval(None) for name in metrics if name.endswith("_brain")}
        values = {name: found for name, found in values.items() if not name.endswith("_brain")}
    return Evaluation(describe_split("vqvae", split.name, subjects, metrics), values, counts)


def evaluate_pixelcnn(model: PixelCNN, dataset: Dataset, split: SplitLoader, ranks: Ranks) -> Evaluation:
    """Measure the bits per code of a split with teacher forcing, and those of the baselines.

    Must be called by all ranks.

    Args:
        dataset: dataset of the split; the baselines are fitted to its train and validate splits.
    Raises:
        DataError: the train or the validate split has no samples.
    """
    model, manifest = model.to(ranks.device), split.manifest
    assert manifest.grid is not None, "a dataset of codes has a grid"
    untrained = UntrainedClasses(manifest)

    def measure(batch: Batch) -> dict[str, Tensor]:
        if "label" in model.condition:
            untrained.add(batch.label)
        logits = model(batch.values, conditions=conditions_of(model, batch, manifest.attributes))
        return {"bits_per_code": code_bits(logits, batch.values)}

    values = measure_samples(split, measure, ranks)
    untrained.report(split.name, ranks)
    baselines, baseline_bits = run_on_main(ranks, lambda: score_baselines(dataset, split))
    values |= baseline_bits
    neighbours = run_on_main(ranks, lambda: score_neighbours(dataset, split)) if model.reads_previous else None
    if neighbours is not None:
        values["neighbour_bits_per_code"] = neighbours[1]
    categories: dict[str, Any] = {}
    if model.spec.attributes:
        attribute_values, categories = measure_attributes(model, dataset, split, ranks)
        values |= attribute_values
    rate = bits_per_pixel(1.0, manifest.grid, manifest.image_size)
    subjects = split.subjects()
    metrics = summarize(values | {"bits_per_pixel": values["bits_per_code"] * rate}, subjects)
    ahead = compare_models({"bits": values["mixture_bits_per_code"]}, {"bits": values["bits_per_code"]}, subjects)
    metrics["bits_below_mixture"] = ahead["bits"]
    metrics["uniform_bits_per_code"] = without_interval(uniform_bits(model.num_codes))
    if split.name != "train":
        train = SplitLoader(dataset, "train", batch_size=split.batch_size, reads_previous=model.reads_previous)
        batches = choose_train_samples(len(train), split.batch_size)
        train_bits = measure_samples(train, measure, ranks, batches, label="membership: train")["bits_per_code"]
        names = train.subjects()
        chosen = [names[number] for number in np.concatenate(batches)]
        metrics["membership_auc"] = measure_membership(train_bits, chosen, values["bits_per_code"], subjects)
    report = describe_split("pixelcnn", split.name, subjects, metrics)
    report["baselines"] = {
        "unigram_smoothing": SMOOTHING,
        "train_maps": baselines.maps,
        "weights": {
            name: {"contexts": ["unigram", *contexts], "levels": baselines.weights[name].tolist()}
            for name, contexts in BASELINES.items()
        },
    }
    if neighbours is not None:
        report["baselines"]["neighbour_weights"] = neighbours[0].weights
    if categories:
        report["categories"] = categories
    return Evaluation(report, values)


def score_baselines(dataset: Dataset, split: SplitLoader) -> tuple[CodeBaselines, SampleValues]:
    """Fit the baselines to train and validate, and return the bits per code of each sample of a split."""
    assert split.manifest.num_codes is not None, "a dataset of codes has a number of codes"

    def read_maps(name: str) -> Iterator[CodeMaps]:
        batches = SplitLoader(dataset, name, batch_size=BASELINE_BATCH_SIZE).load_all()
        return (CodeMaps(batch.values.numpy(), batch.slice.numpy()) for batch in batches)

    print_message("evaluate: fitting the baselines ...")
    baselines = CodeBaselines.fit(read_maps("train"), read_maps("validate"), num_codes=split.manifest.num_codes)
    bits = [baselines.bits(maps) for maps in read_maps(split.name)]
    return baselines, {f"{name}_bits_per_code": np.concatenate([part[name] for part in bits]) for name in bits[0]}


def score_neighbours(dataset: Dataset, split: SplitLoader) -> tuple[NeighbourBaseline, npt.NDArray[np.float64]]:
    """Fit the mixture of counts of neighbouring codes; return it and the bits per code of each sample of a split."""
    assert split.manifest.num_codes is not None, "a dataset of codes has a number of codes"

    def read_pairs(name: str) -> Iterator[Pair]:
        batches = SplitLoader(dataset, name, batch_size=BASELINE_BATCH_SIZE, reads_previous=True).load_all()
        for batch in batches:
            assert batch.conditions.previous is not None, "loaded with the previous slices"
            yield batch.values.numpy(), batch.conditions.previous.numpy()

    baseline = NeighbourBaseline.fit(read_pairs("train"), read_pairs("validate"), num_codes=split.manifest.num_codes)
    return baseline, np.concatenate([baseline.bits(*pair) for pair in read_pairs(split.name)])


def summarize(values: SampleValues, subjects: list[str]) -> dict[str, Summary]:
    """Return mean and 95 % interval over subjects of each metric; a `_brain` metric leaves out slices without brain.

    Args:
        subjects: subject of each sample.
    """
    summaries: dict[str, Summary] = {}
    for name, column in values.items():
        kept = find_measured(values, name)
        summaries[name] = (
            to_summary(subject_interval(column[kept], np.asarray(subjects)[kept].tolist()))
            if kept.any()
            else without_interval(None)
        )
    return summaries


def compare_models(first: SampleValues, second: SampleValues, subjects: list[str]) -> dict[str, Summary]:
    """Return first - second of each metric that both have, with the interval of paired differences over subjects."""
    differences: dict[str, Summary] = {}
    for name in (name for name in first if name in second):
        kept = find_measured(first, name) & find_measured(second, name)
        differences[name] = (
            to_summary(paired_difference(first[name][kept], second[name][kept], np.asarray(subjects)[kept].tolist()))
            if kept.any()
            else without_interval(None)
        )
    return differences


def without_interval(value: float | None) -> Summary:
    """Return the summary of a value that is computed from the whole split at once."""
    return {"mean": value, "low": None, "high": None}


def describe_split(task: str, split: str, subjects: list[str], metrics: dict[str, Summary]) -> dict[str, Any]:
    """Return the report of `vqdist evaluate` on a split."""
    return {
        "task": task,
        "split": split,
        "samples": len(subjects),
        "subjects": len(set(subjects)),
        "metrics": metrics,
    }
