"""The part of the report of `vqdist evaluate` that a prior with attributes adds."""

import math
from typing import Any

import numpy as np

from vqdist.data.loading.batch import Batch
from vqdist.data.open_dataset import Dataset
from vqdist.distributed.process_group import Ranks
from vqdist.evaluation.category_posterior import CategoryCounts, describe_categories, read_categories
from vqdist.evaluation.condition_worth import NONE, SAVED, SHUFFLED, TRUE, ConditionVariants
from vqdist.evaluation.sample_measures import SampleValues, measure_samples
from vqdist.foundation.progress import print_message
from vqdist.inference.split_loader import SplitLoader
from vqdist.inference.work_sharing import run_on_main
from vqdist.models.pixelcnn import PixelCNN


def measure_attributes(
    model: PixelCNN, dataset: Dataset, split: SplitLoader, ranks: Ranks
) -> tuple[SampleValues, dict[str, Any]]:
    """Return the bits per code with other conditions, by sample, and how well each category is recognised.

    Must be called by all ranks.
    """
    print_message("evaluate: the worth of the attributes ...")
    variants = ConditionVariants.build(model, split)
    values = measure_samples(split, variants.measure, ranks)
    true = values.pop(TRUE)
    if SHUFFLED in values:
        values[SAVED] = values[SHUFFLED] - true
    if NONE in values:
        values["saved_against_none_bits_per_code"] = values[NONE] - true
    categories = {
        name: _recognise(model, dataset, split, variants, name, ranks)
        for name, attribute in model.spec.attributes.items()
        if attribute.kind == "category" and name in split.manifest.attributes and len(attribute.values) > 1
    }
    return values, categories


def _recognise(
    model: PixelCNN, dataset: Dataset, split: SplitLoader, variants: ConditionVariants, name: str, ranks: Ranks
) -> dict[str, Any] | None:
    categories = model.spec.attributes[name].values
    size = math.prod(split.manifest.values_shape)

    def measure(batch: Batch) -> Any:
        return variants.measure_categories(batch, name)

    bits = measure_samples(split, measure, ranks)
    ours = -math.log(2) * size * np.stack([bits[category] for category in categories], axis=1)

    def describe() -> dict[str, Any] | None:
        counts = CategoryCounts.fit(dataset, name, categories, num_codes=model.num_codes)
        parts = [(counts.score(codes), truth) for codes, truth in read_categories(split, name, categories)]
        baseline, truth = (np.concatenate(column) for column in zip(*parts, strict=True))
        subjects = split.subjects()
        report = describe_categories(ours, truth, subjects, categories)
        if report is not None:
            report["position_counts"] = describe_categories(baseline, truth, subjects, categories)
        return report

    return run_on_main(ranks, describe)
