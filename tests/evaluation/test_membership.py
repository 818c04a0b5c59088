"""The AUC of telling training maps from others by their bits."""

from pathlib import Path

import numpy as np
import pytest
from support import ALONE

from vqdist import load_model
from vqdist.data.open_dataset import open_dataset
from vqdist.evaluation.membership import choose_train_samples, measure_membership
from vqdist.evaluation.model_metrics import evaluate_pixelcnn, measure_samples
from vqdist.inference.split_loader import SplitLoader
from vqdist.metrics.codes import code_bits
from vqdist.training.tasks.conditions import conditions_of


def test_bits_that_reveal_all_or_nothing() -> None:
    names = [str(number // 3) for number in range(30)]
    lower = measure_membership(np.arange(30.0), names, np.arange(30.0) + 40, names)
    assert (lower["mean"], lower["low"], lower["high"]) == (1, None, None)  # no subject changes it
    same = measure_membership(np.arange(30.0), names, np.arange(30.0), names)
    assert same["mean"] == 0.5
    assert same["low"] < 0.5 < same["high"]
    part = measure_membership(np.array([1.0, 3.0]), ["a", "b"], np.array([2.0, 4.0]), ["c", "d"])
    assert part == {"mean": 0.75, "low": None, "high": None}


def test_at_most_1024_training_samples_evenly_spaced() -> None:
    few = np.concatenate(choose_train_samples(10, 4))
    np.testing.assert_array_equal(few, np.arange(10))
    assert [len(batch) for batch in choose_train_samples(10, 4)] == [4, 4, 2]
    many = np.concatenate(choose_train_samples(5000, 16))
    assert (len(many), many[0], many[-1]) == (1024, 0, 4999)
    assert set(np.diff(many)) == {4, 5}


def test_the_report_of_a_prior_has_it(codes: Path, prior: Path) -> None:
    model, dataset = load_model(prior), open_dataset(codes)
    test, train = (SplitLoader(dataset, name, batch_size=4) for name in ("test", "train"))

    def measure(batch):
        return {"bits": code_bits(model(batch.values, conditions=conditions_of(model, batch, {})), batch.values)}

    train_bits, test_bits = (measure_samples(split, measure, ALONE)["bits"] for split in (train, test))
    expected = np.mean(train_bits[:, None] < test_bits)
    found = evaluate_pixelcnn(model, dataset, test, ALONE).report["metrics"]["membership_auc"]
    assert found["mean"] == pytest.approx(expected)
    assert found["low"] <= found["mean"] <= found["high"]
    assert "membership_auc" not in evaluate_pixelcnn(model, dataset, train, ALONE).report["metrics"]
