"""Samples of classes without a training sample are counted and reported."""

import pytest
import torch
from support import ALONE

from vqdist.data.loading.batch import NO_NUMBER
from vqdist.data.shards.manifest import Manifest
from vqdist.evaluation.untrained_classes import UntrainedClasses


def report(manifest: Manifest, *labels: int) -> None:
    untrained = UntrainedClasses(manifest)
    for label in labels:
        untrained.add(torch.tensor([0, label]))
    untrained.report("test", ALONE)


def test_they_are_counted_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    manifest = Manifest("codes", (8, 8), 1, {}, class_names=("a", "images"), conditions=((0, 3, 5), (0, 4, 5)))
    report(manifest, 1, 1, 7)
    said = capsys.readouterr().err
    assert "WARNING: 3 samples of test are of classes without a training sample (1 images, 7);" in said


def test_nothing_is_reported_without_them(capsys: pytest.CaptureFixture[str]) -> None:
    report(Manifest("codes", (8, 8), 1, {}, conditions=((0, 3, 5), (1, None, 5))), 1, 1)
    report(Manifest("codes", (8, 8), 1, {}, class_names=("a",), conditions=((0, 3, 5),)), NO_NUMBER)
    report(Manifest("codes", (8, 8), 1, {}), 1)  # of a manifest that does not describe the classes
    assert capsys.readouterr().err == ""
