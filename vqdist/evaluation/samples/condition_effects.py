"""Measured anatomy against each condition, such as the area of the ventricles against age, beside real slices."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from vqdist.config.attributes import Attributes, AttributeValue
from vqdist.data.loading.batch import Batch, to_images
from vqdist.distributed.process_group import Ranks
from vqdist.evaluation.samples.sample_folder import SampleFolder
from vqdist.evaluation.samples.slice_statistics import measure_areas, measure_fluid
from vqdist.inference.split_loader import SplitLoader, group_in_batches
from vqdist.inference.work_sharing import map_batches

AREAS = ("brain_area", "fluid_share", "ventricle_area")
MIN_SLICES = 3

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Anatomy:
    """Areas of N slices and the attributes that they have or were sampled for.

    Attributes:
        areas: (N, 3) in the order of AREAS.
        slice_numbers: (N,) below 0 for a slice without number.
        attributes: of each slice.
    """

    areas: Values
    slice_numbers: npt.NDArray[np.int64]
    attributes: Sequence[Mapping[str, AttributeValue]]


def compare_conditions(
    samples: SampleFolder, train: SplitLoader, test: SplitLoader, ranks: Ranks
) -> dict[str, Any] | None:
    """Return the effect of each attribute on the areas of train, test and samples; None if the samples have none.

    The mean of train at the same slice number is subtracted from each area first. A number has the correlation with
    the area and the slope per unit, a category the mean of the area. Must be called by all ranks.
    """
    attributes = train.manifest.attributes
    if not any(name in found for found in samples.attributes for name in attributes):
        return None
    sets = {
        "train": _measure_split(train, ranks),
        "test": _measure_split(test, ranks),
        "samples": _measure_samples(samples, train, test.batch_size, ranks),
    }
    places = _find_means(sets["train"])
    adjusted = {name: _subtract(found, places) for name, found in sets.items()}
    return {
        "areas": "share of the slice, of the brain, of its inner part; minus the mean of train at the slice number",
        **{name: _describe(name, attributes, sets, adjusted) for name in attributes},
    }


def _measure(images: Tensor) -> Values:
    grey = images.float().mean(dim=1)
    brain, ventricle = measure_areas(grey)
    columns = (brain, measure_fluid(grey), ventricle)
    return np.stack([column.cpu().double().numpy() for column in columns], axis=1)


def _measure_split(split: SplitLoader, ranks: Ranks) -> Anatomy:
    def measure(batch: Batch) -> tuple[Values, npt.NDArray[np.int64], list[dict[str, AttributeValue]]]:
        found = [
            {
                name: value
                for name, attribute in split.manifest.attributes.items()
                if (value := attribute.decode(float(batch.conditions.attributes[name][row]))) is not None
            }
            for row in range(len(batch))
        ]
        return _measure(to_images(batch.values.to(ranks.device))), batch.slice.numpy(), found

    parts = map_batches(ranks, split.load_all(ranks), measure)
    areas, numbers, attributes = zip(*parts, strict=True)
    return Anatomy(np.concatenate(areas), np.concatenate(numbers), [one for part in attributes for one in part])


def _measure_samples(samples: SampleFolder, train: SplitLoader, batch_size: int, ranks: Ranks) -> Anatomy:
    batches = group_in_batches([len(samples)], batch_size)
    mine = batches[ranks.rank :: ranks.world_size]
    parts = map_batches(ranks, mine, lambda numbers: _measure(samples.read(numbers, train.manifest).to(ranks.device)))
    return Anatomy(np.concatenate(parts), samples.slice_numbers, samples.attributes)


def _find_means(train: Anatomy) -> dict[int, Values]:
    """Return the mean areas of train at each slice number; -1: of all its slices."""
    numbers = np.unique(train.slice_numbers).tolist()
    return {number: train.areas[train.slice_numbers == number].mean(axis=0) for number in numbers} | {
        -1: train.areas.mean(axis=0)
    }


def _subtract(found: Anatomy, means: Mapping[int, Values]) -> Values:
    return found.areas - np.stack([means.get(number, means[-1]) for number in found.slice_numbers.tolist()])


def _describe(
    name: str, attributes: Attributes, sets: Mapping[str, Anatomy], adjusted: Mapping[str, Values]
) -> dict[str, Any]:
    report: dict[str, Any] = {"kind": attributes[name].kind}
    for group, found in sets.items():
        known = [row for row, values in enumerate(found.attributes) if name in values]
        values = [found.attributes[row][name] for row in known]
        areas = adjusted[group][known]
        measure = correlate if attributes[name].kind == "number" else average
        report[group] = {"slices": len(known)} | {
            area: measure(values, areas[:, column]) for column, area in enumerate(AREAS)
        }
    return report


def correlate(values: Sequence[AttributeValue], areas: Values) -> dict[str, float] | None:
    """Return the correlation of areas with numbers and the slope; None for few slices or a single number."""
    numbers = np.array(values, np.float64)
    if len(numbers) < MIN_SLICES or numbers.std() == 0 or areas.std() == 0:
        return None
    correlation = float(np.corrcoef(numbers, areas)[0, 1])
    return {"correlation": correlation, "slope": correlation * float(areas.std() / numbers.std())}


def average(values: Sequence[AttributeValue], areas: Values) -> dict[str, float]:
    """Return the mean of the areas for each category."""
    names = np.array(values, dtype=str)
    return {str(name): float(areas[names == name].mean()) for name in np.unique(names)}
