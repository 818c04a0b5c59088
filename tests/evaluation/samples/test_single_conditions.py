"""Samples of one class are not compared with slices of all classes in silence."""

from pathlib import Path

import numpy as np
import pytest

from vqdist.data.shards.manifest import Manifest
from vqdist.evaluation.samples.sample_folder import SampleFolder
from vqdist.evaluation.samples.single_conditions import report_single_conditions

CONDITIONS = ((0, 3, 5), (1, 3, 5), (2, 4, 5))
REAL = Manifest("images", (32, 32), 1, {}, class_names=("round", "square"), conditions=CONDITIONS)
UNLABELLED = Manifest("images", (32, 32), 1, {}, conditions=((None, None, 9),))
BY_CLASS = "real slices of 3 classes; the distances include the differences between classes. For samples of all classes"
BY_SLICE = "real slices 2 different ones; the distances include the differences between them."


def sampled(labels: list[int], slices: list[int]) -> SampleFolder:
    names = [f"{n}.png" for n in range(len(labels))]
    return SampleFolder([Path(name) for name in names], np.array(slices), np.array(labels), np.array(names))


@pytest.mark.parametrize(
    ("labels", "slices", "real", "expected"),
    [
        ([1, 1], [-1, -1], REAL, [f"WARNING: all 2 samples are of class 1 square, the {BY_CLASS}"]),
        ([2, 2], [3, 4], REAL, ["of class 2, the real slices"]),
        ([0, 1], [4, 4], REAL, [f"WARNING: all 2 samples have the slice number 4, the {BY_SLICE}"]),
        ([0, 0], [3, 3], REAL, [BY_CLASS, BY_SLICE]),
        ([0, 1], [3, 4], REAL, []),
        ([-1, -1], [-1, -1], REAL, []),
        ([0, 0], [3, 3], UNLABELLED, []),
    ],
)
def test_a_condition_that_all_samples_share_is_reported(
    labels: list[int], slices: list[int], real: Manifest, expected: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    report_single_conditions(sampled(labels, slices), real)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(expected)
    assert all(part in line for part, line in zip(expected, lines, strict=True)), lines
