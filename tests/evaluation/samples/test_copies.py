"""The limit of near copies, their number, and the calibration with altered copies."""

import numpy as np
import pytest
import torch
from support import ALONE

from vqdist.data.sources.phantom import phantom_slice
from vqdist.evaluation.samples.copies import COPIES, are_copies, calibrate, count_copies, find_limits, search_copies
from vqdist.evaluation.samples.copy_search import CopySearch, NearestSlices
from vqdist.evaluation.samples.slice_statistics import SliceStatistics

NUMBERS = (4, 12, 20, 28)


def measure(subjects: range) -> SliceStatistics:
    """Return the statistics of synthetic slices of 128 x 128."""
    slices = [phantom_slice(subject, number, image_size=128) for subject in subjects for number in NUMBERS]
    images = torch.from_numpy(np.stack(slices))[:, None] / 255
    names = np.repeat([f"s{subject}" for subject in subjects], len(NUMBERS))
    return SliceStatistics.measure(images, np.array(NUMBERS * len(subjects)), names)


def nearest(whole: list[float], half: list[float]) -> NearestSlices:
    count = len(whole)
    return NearestSlices(np.zeros(count, np.int64), np.full(count, "none"), np.array(whole), np.array(half))


def test_the_limit_is_between_real_slices_and_a_copy() -> None:
    real = nearest(np.linspace(0.5, 0.7, 101).tolist(), np.linspace(0.6, 0.8, 101).tolist())
    limits = find_limits(real)
    assert limits == pytest.approx({"whole": (1 + 0.69) / 2, "half": (1 + 0.79) / 2})
    samples = nearest([0.6, 0.9, 0.6], [0.7, 0.7, 0.95])
    assert are_copies(samples, limits).tolist() == [False, True, True]
    report = count_copies({"test": real, "samples": samples}, limits)
    assert (report["test"]["near_copies"], report["samples"]["near_copies"]) == (0, 2)
    assert report["samples"]["largest"] == 0.9
    assert report["limits"]["whole"] == limits["whole"]


def test_a_leaked_slice_does_not_move_the_limit() -> None:
    real = np.linspace(0.5, 0.7, 101).tolist()
    leaked = [*real[:-2], 1.0, 1.0]
    assert find_limits(nearest(leaked, leaked)) == pytest.approx(find_limits(nearest(real, real)), abs=0.01)
    assert are_copies(nearest(leaked, leaked), find_limits(nearest(leaked, leaked))).sum() == 2


def test_the_calibration_counts_the_copies_that_are_found() -> None:
    train = measure(range(6))
    search = CopySearch(train.thumbnails)
    limits = find_limits(search_copies(search, measure(range(20, 22)).thumbnails, ALONE, label="test"))
    report = calibrate(search, train, limits, ALONE, slices=2)
    assert report["train_slices"] == 2
    assert list(report["kinds"]) == [*COPIES, "halves of two people"]
    assert report["kinds"]["unchanged"] == report["kinds"]["mirrored up-down"] == {"found": 2, "copies": 2}
    nothing = calibrate(search, train, {"whole": 1.1, "half": 1.1}, ALONE, slices=2)
    assert sum(kind["found"] for kind in nothing["kinds"].values()) == 0


def test_altered_copies_are_what_their_names_say() -> None:
    images = measure(range(1)).thumbnails
    assert COPIES["grey values x 0.85"](images).max() == pytest.approx(0.85 * images.max(), abs=1)
    np.testing.assert_array_equal(COPIES["moved by 1/128"](images)[:, 1:, 1:], images[:, :-1, :-1])
    moved = COPIES["moved by 1.5/128"](images).astype(int)
    between = (images[:, 1:-1].astype(int) + images[:, :-2]) / 2
    assert np.abs(moved[:, 2:] - between).max() <= 1
    larger = COPIES["5 % larger"](images)
    assert (larger > 30).sum() / (images > 30).sum() == pytest.approx(1.05**2, rel=0.03)
    turned = COPIES["turned by 5 degrees"](images)
    assert 2 < np.abs(turned.astype(int) - images).mean() < 40
