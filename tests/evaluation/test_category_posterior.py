"""Recognition of a category by Bayes: accuracy, AUROC, intervals and the baseline of counts."""

from pathlib import Path

import numpy as np
import pytest

from vqdist.data.open_dataset import open_dataset
from vqdist.data.shards.codecs import encode_codes
from vqdist.data.shards.writer import ShardSetWriter
from vqdist.evaluation.category_posterior import CategoryCounts, describe_categories, read_categories
from vqdist.inference.split_loader import SplitLoader

CATEGORIES = ("F", "M")
CODES = 5


def write_set(out: Path) -> Path:
    """Write 2 x 3 maps of 12 subjects, whose first code is more often 4 if they are M; one subject is of no sex."""
    kind = {"kind": "codes", "image_size": (8, 12), "channels": 1, "num_codes": CODES, "grid": (2, 3)}
    with ShardSetWriter(out, **kind, attribute_kinds={"sex": "category"}) as writer:
        for subject in range(12):
            rng = np.random.default_rng(subject)
            sex = CATEGORIES[subject % 2]
            for number in range(3):
                codes = rng.integers(0, CODES, (2, 3))
                codes[0, 0] = 4 if rng.random() < (0.8 if sex == "M" else 0.1) else rng.integers(0, 4)
                attributes = {} if subject == 5 else {"sex": sex}
                info = {
                    "subject": f"s{subject}",
                    "slice": number,
                    "label": None,
                    "source": "",
                    "attributes": attributes,
                }
                split = "test" if subject > 7 else "train"
                writer.write(split, f"s{subject}_{number}", encode_codes(codes, CODES), info)
    return out


def test_the_baseline_counts_codes_by_position_and_category(tmp_path: Path) -> None:
    dataset = open_dataset(write_set(tmp_path / "codes"))
    counts = CategoryCounts.fit(dataset, "sex", CATEGORIES, num_codes=CODES)
    parts = list(read_categories(SplitLoader(dataset, "train", batch_size=4), "sex", CATEGORIES))
    codes, truth = (np.concatenate(column) for column in zip(*parts, strict=True))
    assert truth.tolist().count(-1) == 3, "the subject without a sex"
    unigram = np.bincount(codes[truth >= 0].ravel(), minlength=CODES) + 0.5
    unigram = unigram / unigram.sum()
    for index in range(2):
        for y in range(2):
            for x in range(3):
                own = np.bincount(codes[truth == index][:, y, x], minlength=CODES) + unigram
                expected = np.log(own / own.sum())
                np.testing.assert_allclose(counts.log_probabilities[index, 3 * y + x], expected)
    score = counts.score(codes[:1])
    by_hand = sum(counts.log_probabilities[1, place, code] for place, code in enumerate(codes[0].ravel()))
    assert score[0, 1] == pytest.approx(by_hand)


def test_accuracy_and_auroc() -> None:
    """One of four slices of F and two of four of M are wrong; AUROC by counting pairs."""
    odds = np.array([-3.0, -2.0, -1.0, 1.0, 2.0, 3.0, -0.5, -4.0])
    truth = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    scores = np.stack([np.zeros(8), odds], axis=1) - 1000.0
    subjects = [f"s{number // 2}" for number in range(8)]
    found = describe_categories(scores, truth, subjects, CATEGORIES)
    assert found is not None
    assert (found["samples"], found["subjects"]) == (8, 4)
    assert found["balanced_accuracy"]["mean"] == pytest.approx((0.75 + 0.5) / 2)
    pairs = np.mean([[m > f for f in odds[:4]] for m in odds[4:]])
    assert found["auroc"]["M"]["mean"] == pytest.approx(pairs)
    assert found["auroc"]["F"]["mean"] == pytest.approx(pairs)
    assert found["auroc"]["M"]["low"] is None  # two subjects of each
    more = describe_categories(scores, truth, [f"s{number}" for number in range(8)], CATEGORIES)
    assert more is not None
    for figure in (more["balanced_accuracy"], more["auroc"]["M"]):
        assert 0 < figure["low"] < figure["mean"] < figure["high"] < 1
    unsure = describe_categories(np.zeros((8, 2)), truth, subjects, CATEGORIES)
    assert unsure is not None
    assert unsure["auroc"]["M"]["mean"] == 0.5


def test_unknown_categories_do_not_count() -> None:
    scores, truth = np.array([[0.0, 1.0], [1.0, 0.0], [5.0, 0.0]]), np.array([1, 0, -1])
    found = describe_categories(scores, truth, ["a", "b", "c"], CATEGORIES)
    assert found is not None
    assert found["samples"] == 2
    assert found["balanced_accuracy"]["mean"] == 1
    assert describe_categories(scores, np.array([1, 1, -1]), ["a", "b", "c"], CATEGORIES) is None
