"""Whether the bits of a map reveal that a prior was trained on it: the AUC of telling training maps from others."""

import numpy as np
import numpy.typing as npt

from vqdist.inference.split_loader import Numbers
from vqdist.metrics.confidence_intervals import Summary, to_summary
from vqdist.metrics.detection import build_curve, detection_intervals, measure_detection

MAX_TRAIN_SAMPLES = 1024  # evenly spaced in the train split

Values = npt.NDArray[np.float64]


def choose_train_samples(count: int, batch_size: int) -> list[Numbers]:
    """Return the numbers of at most MAX_TRAIN_SAMPLES of `count` samples, evenly spaced, in batches."""
    numbers = np.unique(np.linspace(0, count - 1, min(count, MAX_TRAIN_SAMPLES)).round().astype(np.int64))
    return [numbers[start : start + batch_size] for start in range(0, len(numbers), batch_size)]


def measure_membership(
    train_bits: Values, train_subjects: list[str], other_bits: Values, other_subjects: list[str]
) -> Summary:
    """Return the AUC and its 95 % interval over subjects: 0.5 if the bits reveal nothing, 1 if they reveal all.

    Args:
        train_bits: (N,) bits per code of training maps.
        other_bits: (M,) bits per code of maps that the prior was not trained on.
    """
    scores = -np.concatenate([train_bits, other_bits])  # a map that costs few bits is taken for a training map
    members = np.arange(len(scores)) < len(train_bits)
    subjects = [*(f"train {name}" for name in train_subjects), *(f"other {name}" for name in other_subjects)]
    exact = float(measure_detection(build_curve(scores, members)).auroc)
    return to_summary(detection_intervals(scores, members, subjects)["auroc"]._replace(mean=exact))
