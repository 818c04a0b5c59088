"""Splits by subject: counts follow the shares, and no subject is in two splits."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqdist.data.sources.file_names import parse_subject
from vqdist.data.sources.splits import assign_splits, find_untrained_classes, split_subjects
from vqdist.foundation.errors import DataError

SHARES = {"train": 0.8, "validate": 0.1, "test": 0.1}


def names(count: int) -> list[str]:
    return [f"OAS1_{number:04d}" for number in range(count)]


@given(st.integers(3, 200), st.lists(st.floats(0.01, 1), min_size=3, max_size=3), st.integers(0, 5))
def test_counts_are_close_to_the_shares_and_never_zero(count: int, shares: list[float], seed: int) -> None:
    wanted = dict(zip(SHARES, shares, strict=True))
    splits = split_subjects(names(count), wanted, seed=seed)
    counts = Counter(splits.values())
    assert sorted(splits) == names(count)
    for split, share in wanted.items():
        assert counts[split] >= 1
        assert counts[split] < share * count / sum(shares) + 2


def test_the_split_depends_on_seed_and_names_only() -> None:
    first = split_subjects(names(40), SHARES, seed=0)
    assert first == split_subjects(names(40)[::-1] * 2, SHARES, seed=0)
    assert first != split_subjects(names(40), SHARES, seed=1)
    assert Counter(first.values()) == {"train": 32, "validate": 4, "test": 4}


def test_too_few_subjects_are_refused_with_a_way_out() -> None:
    with pytest.raises(DataError, match=r"2 subjects for 3 shares .*OAS1_0000, OAS1_0001.*--split 1 0 0"):
        split_subjects(names(2), SHARES, seed=0)
    assert split_subjects(names(2), {"train": 1, "validate": 0, "test": 0}, seed=0) == dict.fromkeys(names(2), "train")


def test_given_splits_are_kept_and_missing_ones_are_filled_on_request() -> None:
    files = [(name, "train") for name in names(9)] + [("x", "test")]
    assert assign_splits(files, SHARES, fill=False, seed=0) == dict(files)
    filled = assign_splits(files, SHARES, fill=True, seed=0)
    assert Counter(filled.values()) == {"train": 8, "validate": 1, "test": 1}
    assert filled["x"] == "test"


def test_a_subject_in_two_given_splits_is_an_error() -> None:
    files = [("a", "train"), ("b", "test"), ("a", "test"), ("b", "validate")]
    with pytest.raises(DataError) as error:
        assign_splits(files, SHARES, fill=False, seed=0)
    hint = "one split; if these are different people, a --subject-pattern that includes the folder of the split"
    assert [str(problem) for problem in error.value.problems] == [
        f"subject a: found test and train; expected {hint}",
        f"subject b: found test and validate; expected {hint}",
    ]
    many = [(name, split) for name in names(30) for split in ("train", "test")]
    with pytest.raises(DataError) as error:
        assign_splits(many, SHARES, fill=False, seed=0)
    assert len(error.value.problems) == 6
    assert error.value.problems[-1].found == "25 more problems like these"
    with pytest.raises(DataError, match="outside the folders"):
        assign_splits([("a", "train"), ("b", None)], SHARES, fill=False, seed=0)


def test_classes_without_a_file_in_train_are_found() -> None:
    files = [(0, "train"), (1, "test"), (1, "validate"), (2, "test"), (None, "test")]
    (problem,) = find_untrained_classes(files, ("cat", "images", "x"))
    assert problem.found == "no file in train of the classes images (only validate and test), x (only test)"
    assert find_untrained_classes([(0, "train"), (0, "test")], ("cat",)) == []
    assert find_untrained_classes([(0, "test")], ("cat",)) == []  # a dataset for evaluation only


@pytest.mark.parametrize(
    ("form", "spelled", "held_out"),
    [("case_{:03d}", "Case_{:03d}_Slice_0.png", [4, 7]), ("OAS1_{:04d}", "oas1_{:04d}_mr1.png", [3, 6])],
)
def test_splits_of_datasets_made_before_stay(form: str, spelled: str, held_out: list[int]) -> None:
    subjects = [parse_subject(spelled.format(number)) or "" for number in range(1, 9)]
    assert subjects == [form.format(number) for number in range(1, 9)]
    splits = split_subjects(subjects, SHARES, seed=0)
    # as version 0.1.0 split them
    assert [number for number, name in enumerate(subjects, 1) if splits[name] != "train"] == held_out
