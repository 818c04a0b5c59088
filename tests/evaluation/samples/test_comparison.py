"""The statistics and the nearest training slices of samples."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support import ALONE

from vqdist import load_model
from vqdist.data.open_dataset import open_dataset
from vqdist.evaluation.samples.comparison import list_nearest, measure_slices
from vqdist.evaluation.samples.copy_search import CopySearch
from vqdist.evaluation.samples.sample_folder import SampleFolder
from vqdist.evaluation.samples.slice_statistics import SliceStatistics
from vqdist.inference.split_loader import SplitLoader
from vqdist.metrics.images import round_to_uint8


def save_pngs(folder: Path, images: torch.Tensor) -> SampleFolder:
    folder.mkdir()
    for number, image in enumerate(images):
        Image.fromarray((image[0] * 255).round().to(torch.uint8).numpy()).save(folder / f"{number}.png")
    return SampleFolder.open(folder)


def test_all_sets_are_measured_in_order(images: Path, vqvae: Path, tmp_path: Path) -> None:
    dataset, model = open_dataset(images), load_model(vqvae)
    train, test = (SplitLoader(dataset, name, batch_size=4) for name in ("train", "test"))
    slices = {split.name: split.load(np.arange(len(split))).values / 255 for split in (train, test)}
    recon = model.reconstruct(slices["test"])
    statistics = measure_slices(save_pngs(tmp_path / "recon", recon), train, test, vqvae=model, ranks=ALONE)
    split_subjects = {split.name: split.subjects() for split in (train, test)}
    assert list(statistics) == ["train", "test", "reconstructions", "samples"]
    for name in ("train", "test"):
        numbers = statistics[name].slice_numbers
        np.testing.assert_allclose(
            statistics[name].features,
            SliceStatistics.measure(slices[name], numbers, np.array(split_subjects[name])).features,
            atol=1e-5,
        )
        assert numbers.tolist() == [0, 10, 20] * (len(numbers) // 3)
        assert statistics[name].subjects.tolist() == split_subjects[name]
    assert statistics["reconstructions"].subjects.tolist() == split_subjects["test"]
    assert statistics["samples"].subjects.tolist() == [f"{number}.png" for number in range(9)]
    # Samples are PNG files, so reconstructions are rounded to the same grey values.
    np.testing.assert_allclose(statistics["samples"].features, statistics["reconstructions"].features, atol=1e-5)
    assert statistics["samples"].slice_numbers.tolist() == [-1] * 9
    assert torch.equal(round_to_uint8(slices["test"]), slices["test"])

    search = CopySearch(statistics["train"].thumbnails)
    copies = save_pngs(tmp_path / "copies", slices["train"][[5, 2]])
    copied = measure_slices(copies, train, test, vqvae=model, ranks=ALONE)["samples"]
    listed = list_nearest(copies, train, search.find(copied.thumbnails))
    assert [(found["file"], found["train"], found["mirror"]) for found in listed] == [
        ("0.png", train.key(5), "none"),
        ("1.png", train.key(2), "none"),
    ]
    assert [found["whole"] for found in listed] == pytest.approx([1, 1])
