"""Samples of a single class or slice number, which differ from real slices of all of them even if they are good."""

from collections.abc import Collection

from vqdist.data.loading.batch import NO_NUMBER
from vqdist.data.shards.manifest import Manifest
from vqdist.evaluation.samples.sample_folder import SampleFolder
from vqdist.foundation.progress import count_noun, print_message


def report_single_conditions(samples: SampleFolder, real: Manifest) -> None:
    """Print a warning for each condition of which all samples have one value, and the real slices several.

    Args:
        real: manifest of the real slices.
    """
    labels = {label for label, _, _ in real.conditions if label is not None}
    slices = {number for _, number, _ in real.conditions if number is not None}
    count = count_noun(len(samples), "sample")
    label, number = _find_single(samples.labels.tolist(), labels), _find_single(samples.slice_numbers.tolist(), slices)
    if label is not None:
        name = f" {real.class_names[label]}" if label < len(real.class_names) else ""
        print_message(
            f"WARNING: all {count} are of class {label}{name}, the real slices of {len(labels)} classes; the distances "
            "include the differences between classes. For samples of all classes, leave out --label of vqdist sample"
        )
    if number is not None:
        print_message(
            f"WARNING: all {count} have the slice number {number}, the real slices {len(slices)} different ones; the "
            "distances include the differences between them. For samples of all slice numbers, leave out --slice of "
            "vqdist sample"
        )


def _find_single(values: Collection[int], real: Collection[int]) -> int | None:
    """Return the value that all samples have, if the real slices have several; else None."""
    (first, *others) = set(values)
    return None if others or first == NO_NUMBER or len(real) < 2 else first
