"""The number of people among samples of few and of many people, against plain counts of pairs."""

from functools import cache
from itertools import combinations

import numpy as np
import pytest
from support import ALONE

from vqdist.data.sources.phantom import phantom_slice
from vqdist.evaluation.samples.copy_search import CopySearch
from vqdist.evaluation.samples.same_person_pairs import (
    APART,
    choose_pairs,
    compare_same_person_pairs,
    measure_share,
    share_of_one_subject,
)
from vqdist.evaluation.samples.slice_statistics import SliceStatistics

NUMBERS = range(10, 14)


@cache
def draw(person: int, number: int) -> np.ndarray:
    return phantom_slice(person, number, image_size=128)


def build(people: range, *, alone: bool = False, named: bool = True) -> SliceStatistics:
    """Return synthetic slices with their numbers.

    Args:
        alone: each slice is a subject of its own, as samples are.
        named: slices have numbers.
    """
    owners, numbers = (column.ravel() for column in np.meshgrid(people, NUMBERS, indexing="ij"))
    drawn = zip(owners.tolist(), numbers.tolist(), strict=True)
    thumbnails = np.stack([draw(owner, number) for owner, number in drawn])
    subjects = np.arange(len(owners)) if alone else owners
    empty = np.zeros(len(owners))
    return SliceStatistics(
        features=empty,
        thumbnails=thumbnails,
        histogram=empty,
        spectrum=empty,
        brain_area=empty,
        ventricle_area=empty,
        left_right=empty,
        slice_numbers=numbers if named else np.full_like(numbers, -1),
        subjects=subjects.astype(str),
    )


@pytest.fixture(scope="module")
def train() -> SliceStatistics:
    return build(range(6))


@pytest.fixture(scope="module")
def search(train: SliceStatistics) -> CopySearch:
    return CopySearch(train.thumbnails)


def test_few_people_are_told_from_many(train: SliceStatistics, search: CopySearch) -> None:
    reports = {
        count: compare_same_person_pairs(
            search, {"train": train, "samples": build(range(100, 100 + count), alone=True)}, ALONE
        )
        for count in (3, 12)
    }
    assert reports[3]["train"] == pytest.approx(1 / 6, abs=0.02)
    for count, report in reports.items():
        found = report["samples"]
        assert found["low"] < 1 / count < found["high"]
        assert found["mean"] == pytest.approx(1 / count, rel=0.15)
    assert reports[3]["samples"]["low"] > reports[3]["train"]
    assert reports[12]["samples"]["high"] < reports[12]["train"]
    assert reports[12]["limit"]["found"] > 0.95
    assert reports[12]["limit"]["mistaken"] < 0.05


def test_new_people_have_no_pair_and_an_upper_limit(train: SliceStatistics, search: CopySearch) -> None:
    every = build(range(100, 112), alone=True)
    numbers = np.arange(len(every)) % len(NUMBERS) == np.arange(len(every)) // len(NUMBERS) % len(NUMBERS)
    samples = SliceStatistics(**{name: values[numbers] for name, values in vars(every).items()})  # one slice each
    report = compare_same_person_pairs(search, {"train": train, "samples": samples}, ALONE)
    assert report["samples"]["mean"] == 0
    assert 0 < report["samples"]["high"] < 5 / report["pairs"]


def test_nothing_is_measured_without_numbers_or_people_that_differ(train: SliceStatistics, search: CopySearch) -> None:
    empty = {"mean": None, "low": None, "high": None}
    unnumbered = build(range(100, 104), alone=True, named=False)
    report = compare_same_person_pairs(search, {"train": train, "samples": unnumbered}, ALONE)
    assert (report["samples"], report["pairs"]) == (empty, 0)
    mixed = SliceStatistics(**{**vars(train), "subjects": np.random.default_rng(0).permutation(train.subjects)})
    report = compare_same_person_pairs(search, {"train": mixed, "samples": train}, ALONE)
    assert (report["limit"], report["train"], report["samples"]) == (None, None, empty)


def test_slices_of_one_volume_are_no_pair(train: SliceStatistics, search: CopySearch) -> None:
    volumes = build(range(100, 108))
    report = compare_same_person_pairs(search, {"train": train, "samples": volumes}, ALONE)
    assert report["samples"]["mean"] == 0


def test_pairs_are_those_with_similar_numbers() -> None:
    rng = np.random.default_rng(0)
    numbers = rng.integers(-1, 9, 40)
    expected = {
        frozenset(pair)
        for pair in combinations(range(40), 2)
        if numbers[list(pair)].min() >= 0 and 1 <= abs(numbers[pair[0]] - numbers[pair[1]]) <= APART
    }
    pairs = choose_pairs(numbers, 10_000, rng).tolist()
    assert {frozenset(pair) for pair in pairs} == expected
    assert len(pairs) == len(expected)
    some = {frozenset(pair) for pair in choose_pairs(numbers, 15, rng).tolist()}
    assert len(some) == 15
    assert some < expected


def test_the_share_of_one_subject_counts_pairs_by_name(train: SliceStatistics) -> None:
    kept = np.random.default_rng(0).permutation(len(train))[:18]
    some = SliceStatistics(**{name: values[kept] for name, values in vars(train).items()})
    pairs = choose_pairs(some.slice_numbers, 10_000, np.random.default_rng(0))
    assert share_of_one_subject(some) == pytest.approx(
        np.mean(some.subjects[pairs[:, 0]] == some.subjects[pairs[:, 1]])
    )


@pytest.mark.parametrize("weights", [np.ones(6), np.array([6, 1, 1, 1, 1, 1])])
def test_the_interval_contains_the_true_share(weights: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    people = weights / weights.sum()
    pairs = choose_pairs(np.arange(60) % 10, 10_000, rng)
    inside = 0
    for _ in range(100):
        owners = rng.choice(len(people), 60, p=people)
        _, low, high = measure_share(owners[pairs[:, 0]] == owners[pairs[:, 1]], pairs)
        assert low is not None
        assert high is not None
        inside += low <= (people**2).sum() <= high
    assert inside >= 92
