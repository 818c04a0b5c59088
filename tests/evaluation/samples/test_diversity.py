"""Pairs of slices of different subjects, and their mean similarity."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support import ALONE

from vqdist.data.open_dataset import open_dataset
from vqdist.evaluation.samples import diversity
from vqdist.evaluation.samples.diversity import MAX_PAIRS, batch_pairs, choose_pairs, compare_diversity
from vqdist.evaluation.samples.sample_folder import SampleFolder
from vqdist.inference.split_loader import SplitLoader
from vqdist.metrics.images import ms_ssim


def test_few_slices_give_all_pairs_of_different_subjects() -> None:
    pairs = choose_pairs(["a", "a", "b", "c"])
    assert pairs.tolist() == [[0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]
    assert choose_pairs(["a", "a"]).shape == (0, 2)
    many = choose_pairs([str(number) for number in range(40)])
    assert len(many) == MAX_PAIRS
    assert len(np.unique(many, axis=0)) == MAX_PAIRS


def test_many_slices_give_random_pairs_of_different_subjects() -> None:
    subjects = [str(number // 3) for number in range(300)]
    pairs = choose_pairs(subjects)
    assert pairs.shape == (MAX_PAIRS, 2)
    assert all(subjects[first] != subjects[second] for first, second in pairs)
    assert len(np.unique(pairs)) > 250
    assert len(choose_pairs(["a"] * 1000 + ["b"])) < MAX_PAIRS
    assert choose_pairs(["a"] * 1000).shape == (0, 2)


def test_a_batch_has_the_first_slices_before_the_second() -> None:
    pairs = np.arange(40).reshape(20, 2)
    first, second = batch_pairs(pairs)
    assert first.tolist() == [*range(0, 32, 2), *range(1, 32, 2)]
    assert second.tolist() == [*range(32, 40, 2), *range(33, 40, 2)]


def test_diversity_is_the_mean_over_pairs(images: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(256, size=(3, 32, 32), dtype=np.uint8)
    for number, one in enumerate(pixels):
        Image.fromarray(one).save(tmp_path / f"{number}.png")
    test = SplitLoader(open_dataset(images), "test", batch_size=4)
    report = compare_diversity(SampleFolder.open(tmp_path), {"test": test}, ALONE)

    def mean(slices: torch.Tensor, pairs: list[tuple[int, int]]) -> float:
        return np.mean([ms_ssim(slices[None, i], slices[None, j]).item() for i, j in pairs])

    sampled = torch.tensor(pixels)[:, None] / 255
    real, subjects = test.load(np.arange(9)).values / 255, test.subjects()
    pairs = [(i, j) for i, j in combinations(range(9), 2) if subjects[i] != subjects[j]]
    np.testing.assert_allclose(report["samples"], mean(sampled, list(combinations(range(3), 2))), rtol=1e-5)
    np.testing.assert_allclose(report["test"], mean(real, pairs), rtol=1e-5)


def test_one_subject_has_no_diversity(images: Path, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        Image.new("L", (32, 32)).save(tmp_path / name)
    validate = SplitLoader(open_dataset(images), "validate", batch_size=4)
    report = compare_diversity(SampleFolder.open(tmp_path), {"test": validate}, ALONE)
    assert report["test"] is None
    assert report["samples"] == 1


def test_progress_names_the_split(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.png", "b.png"):
        Image.new("L", (32, 32)).save(tmp_path / name)
    labels: list[str] = []
    monkeypatch.setattr(diversity, "show_pass", lambda batches, *_, label, **__: labels.append(label) or batches)
    validate = SplitLoader(open_dataset(images), "validate", batch_size=4)
    compare_diversity(SampleFolder.open(tmp_path), {"test": validate}, ALONE)
    assert labels == ["pairs of the samples", "pairs of validate"]
