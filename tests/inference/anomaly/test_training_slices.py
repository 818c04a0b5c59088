"""The training slices that others are compared with."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from support import save_prior, save_vqvae, write_codes, write_images

from vqdist.data.open_dataset import open_dataset
from vqdist.inference.anomaly import training_slices
from vqdist.inference.anomaly.maps import score_comparison
from vqdist.inference.anomaly.method import ScoringMethod
from vqdist.inference.anomaly.reference import HealthyReference, HealthySlice
from vqdist.inference.anomaly.reference_comparison import compare_with_references
from vqdist.inference.anomaly.signals import Signals
from vqdist.inference.anomaly.training_slices import (
    TrainingSlices,
    choose_subjects,
    explain_missing_images,
    find_training_images,
)
from vqdist.inference.split_loader import SplitLoader


def test_slices_of_the_train_split(tmp_path: Path) -> None:
    dataset = open_dataset(write_images(tmp_path / "images"))
    found = TrainingSlices.load(dataset)
    loader = SplitLoader(dataset, "train", batch_size=64)
    (batch,) = loader.load_all()
    assert torch.equal(found.images, batch.values)
    assert found.subjects.tolist() == loader.subjects()
    assert list(found.numbers) == batch.slice.tolist()


def test_training_images_are_those_of_the_codes_or_a_large_set_that_was_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = write_images(tmp_path / "images")
    prior = save_prior(tmp_path / "prior", write_codes(tmp_path / "codes", save_vqvae(tmp_path / "run"), images))
    known = tmp_path / "codes" / "dataset.json"
    manifest = json.loads(known.read_text())
    size = {"image_size": open_dataset(images).manifest.image_size[0], "channels": 1}
    monkeypatch.setattr(training_slices, "MIN_SLICES", 1000)
    monkeypatch.setattr(training_slices, "open_recorded_codes", lambda prior: open_dataset(tmp_path / "codes"))
    assert find_training_images(prior, [images], **size) is not None  # the codes were made from them
    known.write_text(json.dumps(manifest | {"source": manifest["source"] | {"images": "elsewhere"}}))
    assert find_training_images(prior, [images], **size) is None
    monkeypatch.setattr(training_slices, "MIN_SLICES", 2)
    monkeypatch.setattr(training_slices, "MIN_SUBJECTS", 1)
    found = find_training_images(prior, [images], **size)
    assert found is not None
    assert found.folder == images
    monkeypatch.setattr(training_slices, "MIN_SUBJECTS", 1000)
    assert find_training_images(prior, [images], **size) is None
    explained = explain_missing_images(prior, [images], **size)
    few = f"{images} has 12 train slices of 4 subjects; at least 2 slices of 1000 subjects are needed"
    assert explained == f"{few}; elsewhere is no dataset that can be read"
    larger = explain_missing_images(prior, [images], image_size=64, channels=1).split(";")[0]
    assert larger == (
        f"{images} has 12 train slices of 32 x 32 pixels, but the VQ-VAE takes 64 x 64: "
        "shard them with `--image-size 64`"
    )
    colours = explain_missing_images(prior, [images], image_size=32, channels=3)
    assert colours.startswith(f"{images} has 12 train slices of 1 channel, but the VQ-VAE takes 3;")


def test_slices_near_a_number_without_a_subject(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.arange(8, dtype=torch.uint8).view(8, 1, 1, 1)
    slices = TrainingSlices(images, np.array(list("aabbccdd")), [0, 1, 0, 1, 0, 1, 7, None])
    assert slices.near(0, 0, without="a").flatten().tolist() == [2, 4]
    assert slices.near(0, 1, without="x").flatten().tolist() == [0, 1, 2, 3, 4, 5]
    assert slices.near(7, 1, without="d").flatten().tolist() == [0, 1, 2, 3, 4, 5]  # no other subject is near: others
    assert slices.near(None, 1, without="a").flatten().tolist() == [2, 3, 4, 5, 6, 7]
    monkeypatch.setattr(training_slices, "MAX_COMPARED", 2)
    assert slices.near(0, 1, without="x").flatten().tolist() == [0, 5]


def test_slices_of_all_subjects_are_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.zeros(24, 1, 1, 1, dtype=torch.uint8)
    slices = TrainingSlices(images, np.repeat(["a", "b", "c"], 8), [*range(8)] * 3)
    assert slices.choose_scored(without=set()) == [*range(24)]
    assert slices.choose_scored(without={"b", "z"}) == [*range(8), *range(16, 24)]
    monkeypatch.setattr(training_slices, "MAX_SCORED", 6)
    assert slices.choose_scored(without=set()) == [2, 6, 10, 14, 18, 22]  # numbers 2 and 6 of each
    unnumbered = TrainingSlices(images, slices.subjects, [None] * 24)
    assert unnumbered.choose_scored(without=set()) == [2, 6, 10, 14, 18, 22]
    alone = TrainingSlices(images[:8], slices.subjects[:8], slices.numbers[:8])
    assert alone.choose_scored(without=set()) == []  # there is nobody to compare with


def test_a_training_slice_is_scored_against_those_of_others() -> None:
    images = torch.randint(1, 256, (4, 1, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    method, brain = ScoringMethod(), torch.ones(32, 32, dtype=torch.bool)
    comparisons = [compare_with_references(images[0].float() / 255, images[start:], method) for start in (2, 1)]
    signals = Signals(*(torch.zeros(32, 32).half() for _ in Signals._fields))
    reference = HealthyReference([HealthySlice("h", 0, signals, brain)], method)
    slices = TrainingSlices(images, np.array(["a", "a", "b", "c"]), [0, 0, 0, 0])
    found = slices.score(0, reference, method, symmetric=False)
    usual = reference.statistics(0)
    expected, with_own = (score_comparison(comparison, brain, usual, method) for comparison in comparisons)
    assert found == expected != with_own


def test_whole_subjects_are_chosen_up_to_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    subjects = np.repeat([f"s{number}" for number in range(10)], 4)
    monkeypatch.setattr(training_slices, "MAX_SLICES", 14)
    chosen = choose_subjects(subjects)
    names, counts = np.unique(subjects[chosen], return_counts=True)
    assert counts.tolist() == [4, 4, 4]
    assert names.tolist() != ["s0", "s1", "s2"]  # a random choice
    assert (np.diff(chosen) > 0).all()
    monkeypatch.setattr(training_slices, "MAX_SLICES", 3)
    assert len(choose_subjects(subjects)) == 3
