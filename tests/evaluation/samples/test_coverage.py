"""Coverage and density against plain loops, with neighbourhoods of other subjects; few people are noticed."""

import numpy as np
import pytest

from vqdist.evaluation.samples.coverage import (
    NEIGHBOURS,
    compare_coverage,
    count_effective_subjects,
    find_nearest_subjects,
    find_neighbourhoods,
)
from vqdist.evaluation.samples.slice_statistics import SliceStatistics


def build(people: int, slices: int, seed: int, prefix: str, *, spread: float = 1.0) -> SliceStatistics:
    """Return features of people whose slices are close to each other."""
    rng = np.random.default_rng(seed)
    count = people * slices
    features = np.repeat(rng.normal(0, spread, (people, 4)), slices, axis=0) + rng.normal(0, 0.2, (count, 4))
    empty = np.zeros(count)
    subjects = np.repeat([f"{prefix}{number}" for number in range(people)], slices)
    return SliceStatistics(features, *[empty] * 5, empty, np.zeros(count, np.int64), subjects)  # type: ignore[arg-type]


def test_neighbourhoods_reach_to_other_subjects() -> None:
    real = build(4, 6, 0, "p")
    limits = find_neighbourhoods(real.features, real.subjects)
    assert limits is not None
    for number, (feature, subject) in enumerate(zip(real.features, real.subjects, strict=True)):
        distances = sorted(np.sum((real.features[real.subjects != subject] - feature) ** 2, axis=1))
        assert limits[number] == pytest.approx(distances[NEIGHBOURS - 1])
    assert find_neighbourhoods(real.features, np.full(24, "one")) is None


def test_coverage_and_density_are_plain_counts() -> None:
    sets = {"train": build(8, 3, 1, "t"), "test": build(5, 4, 2, "p"), "samples": build(24, 1, 3, "s")}
    report = compare_coverage(sets)
    train = sets["train"].features
    scale = lambda values: (values - train.mean(axis=0)) / train.std(axis=0) / 2  # noqa: E731
    test, samples = scale(sets["test"].features), scale(sets["samples"].features)
    limits = find_neighbourhoods(test, sets["test"].subjects)
    assert limits is not None
    inside = np.array(
        [[np.sum((one - other) ** 2) <= limit for other, limit in zip(test, limits, strict=True)] for one in samples]
    )
    assert report["samples"]["coverage"]["mean"] == pytest.approx(inside.any(axis=0).mean())
    assert report["samples"]["density"]["mean"] == pytest.approx(inside.sum() / NEIGHBOURS / len(samples))
    assert report["compared"] == 24
    low, high = report["samples"]["coverage"]["low"], report["samples"]["coverage"]["high"]
    assert 0 <= low <= high <= 1


def test_samples_without_variety_cover_little_and_show_few_people() -> None:
    sets = {"train": build(10, 8, 1, "t"), "test": build(6, 6, 2, "p")}
    good = compare_coverage({**sets, "samples": build(60, 1, 3, "s")})["samples"]
    one = build(60, 1, 3, "s", spread=0.0)
    narrow = compare_coverage({**sets, "samples": one})["samples"]
    assert narrow["coverage"]["mean"] < 0.8 * good["coverage"]["mean"]
    assert narrow["subjects"] < 0.7 * good["subjects"]
    strange = SliceStatistics(**{**vars(one), "features": one.features + 30})
    far = compare_coverage({**sets, "samples": strange})["samples"]
    assert (far["coverage"]["mean"], far["density"]["mean"]) == (0, 0)


def test_half_of_the_training_people_is_half_the_number() -> None:
    train = build(12, 10, 1, "t", spread=3.0)
    renamed = np.array([f"copy{number}" for number in range(120)])
    nearest = find_nearest_subjects(train.features, renamed, train.features, train.subjects)
    np.testing.assert_array_equal(nearest, np.repeat(np.unique(train.subjects, return_inverse=True)[1][::10], 10))
    everyone, half = count_effective_subjects(nearest, 120), count_effective_subjects(nearest[:60], 60)
    assert (everyone, half) == pytest.approx((12, 6))
    own = find_nearest_subjects(train.features, train.subjects, train.features, train.subjects)
    assert (own != nearest).all()


def test_one_test_subject_has_no_coverage() -> None:
    sets = {"train": build(4, 3, 1, "t"), "test": build(1, 6, 2, "p"), "samples": build(6, 1, 3, "s")}
    assert compare_coverage(sets)["samples"]["coverage"] == {"mean": None, "low": None, "high": None}
