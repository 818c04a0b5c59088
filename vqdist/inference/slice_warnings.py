"""Messages about slices whose results are less reliable: what a prior does not know of them, and few healthy slices."""

import math
from collections.abc import Sequence
from pathlib import Path

from vqdist.data.orientation import find_layout
from vqdist.foundation.progress import count_noun, print_message
from vqdist.inference.anomaly.calibration import count_needed
from vqdist.inference.anomaly.reference import FEW_SUBJECTS
from vqdist.inference.anomaly.training_slices import list_recorded_images, open_recorded_codes
from vqdist.inference.conditions import TrainRow, describe_slices, list_trained_slices
from vqdist.inference.slice_source import SliceSource
from vqdist.models.condition_spec import ConditionSpec
from vqdist.models.map_conditions import UNKNOWN_NUMBER, MapConditions


def report_conditions(conditions: MapConditions, spec: ConditionSpec, rows: Sequence[TrainRow]) -> None:
    """Print which conditions of a prior are unknown for all slices, and a warning of untrained slice numbers.

    Args:
        conditions: of each slice.
        rows: the combinations of conditions that occur in the training data.
    """
    if unknown := [name for name in spec.names if _is_unknown(name, conditions)]:
        print_message(f"{', '.join(unknown)}: unknown for these slices; --condition NAME=VALUE gives them")
    trained = list_trained_slices(rows)
    numbers = [] if conditions.slice is None else conditions.slice.tolist()
    wrong = [number for number in numbers if number not in trained and number != UNKNOWN_NUMBER]
    if wrong and trained:
        print_message(
            f"WARNING: {len(wrong)} of {count_noun(len(numbers), 'slice')} have numbers without a training sample: "
            f"found {describe_slices(sorted(set(wrong)))}; expected {describe_slices(trained)}"
        )


def _is_unknown(name: str, conditions: MapConditions) -> bool:
    """Return whether a condition is unknown for all slices."""
    if name in conditions.attributes:
        return all(math.isnan(value) for value in conditions.attributes[name].tolist())
    values = conditions.label if name == "label" else conditions.slice
    return values is not None and all(value == UNKNOWN_NUMBER for value in values.tolist())


def report_volume_numbers(source: SliceSource, prior: Path) -> None:
    """Print a warning if a volume is scored with a prior whose training data are known not to be volumes.

    Args:
        prior: run of a PixelCNN that takes the slice number from the volume.
    """
    codes = None if source.volume is None else open_recorded_codes(prior)
    layout = None if codes is None else find_layout(codes.manifest)
    if source.volume is None or layout in (None, "nifti"):
        return
    print_message(
        f"WARNING: the slices of {source.volume.path} are numbered from its own brain, those of the training data "
        f"({layout}) in their own way: the slice number, on which the prior is conditioned, may be off; shard volumes "
        "and train on them, or give --condition slice=NUMBER"
    )


def report_healthy(folder: Path, split: str, prior: Path) -> None:
    """Print a warning if the healthy slices trained the prior.

    Args:
        folder, split: of the healthy slices.
        prior: run of the PixelCNN.
    """
    trained = split == "train" and list_recorded_images(open_recorded_codes(prior))
    if trained and any(path.resolve() == folder.resolve() for path in trained):
        print_message(
            f"WARNING: the slices of {folder}:{split} trained the prior: they are more likely than those of other "
            f"people, so that the limits are too low; use --healthy {folder}:validate"
        )


def report_limits(healthy: SliceSource, trained: int, *, false_positive_rate: float) -> None:
    """Print a warning if the slices of the limits are too few to flag any, and a message if their subjects are few.

    Args:
        trained: number of training slices that the limits are also from.
    """
    subjects, num = len({info.subject for info in healthy.infos}), len(healthy) + trained
    least = 1 / (num + 1)
    if least > false_positive_rate:
        rate, needed = false_positive_rate, count_needed(false_positive_rate)
        print_message(
            f"WARNING: no slice will be flagged: with {count_noun(num, 'healthy slice')} no p-value is below "
            f"{least:.2g}; --false-positive-rate {rate:g} needs {needed} healthy slices"
        )
    elif subjects < FEW_SUBJECTS:
        training = f" and {count_noun(trained, 'training slice')}" * bool(trained)
        print_message(
            f"limits from {count_noun(len(healthy), 'slice')} of {count_noun(subjects, 'subject')}{training}: with so "
            f"few people the share of false alarms is uncertain; no p-value is below {least:.2g}"
        )
