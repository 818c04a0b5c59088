"""Comparison of sampled volumes with real ones."""

import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from support import ALONE, VOLUMES, save_prior, save_vqvae, write_codes, write_image_set

from vqdist import evaluate
from vqdist.config.command_options import SampleOptions
from vqdist.evaluation.samples.sample_folder import SampleFolder
from vqdist.evaluation.samples.slice_statistics import SliceStatistics
from vqdist.evaluation.samples.volume_comparison import count_volume_copies
from vqdist.foundation.command import run_command
from vqdist.foundation.errors import DataError
from vqdist.inference.volume_sampling import prepare_volume_sampling


def test_the_report_of_sampled_volumes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = write_image_set(tmp_path / "images", slices=VOLUMES)
    codes = write_codes(tmp_path / "codes", save_vqvae(tmp_path / "run"), images)
    prior, out = save_prior(tmp_path / "prior", codes, condition="slice", context="previous"), tmp_path / "out"
    prepare_volume_sampling(SampleOptions(prior=prior, out=out, volumes=2), ALONE).run(ALONE)
    words = ["--run", prior, "--data", codes, "--samples", out, "--figures", tmp_path / "figures", "--device", "cpu"]
    words += ["--split", "test"]
    capsys.readouterr()
    assert run_command(evaluate.main, [str(word) for word in words]) == 0
    written = capsys.readouterr()
    report = json.loads(written.out)
    assert report["metrics"].keys() >= {"bits_per_code", "neighbour_bits_per_code", "position_bits_per_code"}
    assert sum(report["baselines"]["neighbour_weights"].values()) == pytest.approx(1)
    assert report["realism"]["samples"] == 8
    volumes = report["realism"]["volumes"]
    neighbours = volumes["neighbours"]
    assert [neighbours[name]["volumes"] for name in ("samples", "test", "reconstructions")] == [2, 2, 2]
    drawn = np.load(out / "codes.npy")
    agreement = (drawn[:, 1:] == drawn[:, :-1]).mean()
    assert neighbours["samples"]["agreement"]["mean"] == pytest.approx(agreement)
    assert 0 < neighbours["test"]["ssim"]["mean"] < 1
    assert volumes["copies"]["samples"]["volumes"] == 2
    assert "SSIM of neighbours" in written.err
    folder = SampleFolder.open(out)
    assert (len(folder), folder.depth, folder.slice_numbers.tolist()) == (8, 4, [14, 15, 16, 17] * 2)
    np.save(out / "codes.npy", drawn[:1])
    with pytest.raises(DataError, match=r"codes of shape \(1, 4, 8, 8\); expected \(2, 4, h, w\)"):
        folder.read_codes()


def describe(thumbnails: np.ndarray) -> SliceStatistics:
    """Return statistics of volumes (V, S, 64, 64) with grey values in [0, 1]."""
    V, S = thumbnails.shape[:2]
    empty = {field.name: np.zeros((V * S, 1)) for field in fields(SliceStatistics)}
    numbers = np.tile(np.arange(S), V)
    images = (thumbnails.reshape(V * S, *thumbnails.shape[2:]) * 255).round().astype(np.uint8)
    return SliceStatistics(**(empty | {"thumbnails": images, "slice_numbers": numbers}))


def test_copies_of_whole_volumes() -> None:
    rng = np.random.default_rng(0)
    train, test, samples = (rng.random((count, 3, 64, 64)) for count in (3, 4, 3))
    samples[0] = train[1] + 0.01  # a copy
    samples[1] = train[2, :, ::-1]  # mirrored
    samples[2, :2] = train[0, :2]  # two of three slices
    train, test, samples = ((slices.clip(0, 1) * 255).round() / 255 for slices in (train, test, samples))
    sets = {"train": describe(train), "test": describe(test), "samples": describe(samples)}
    volumes = {name: np.arange(len(found)).reshape(-1, 3).tolist() for name, found in sets.items()}
    report = count_volume_copies(sets, volumes)
    expected = [
        min(
            float(np.sqrt(((one - view) ** 2).mean()))
            for other in train
            for view in (other, other[:, ::-1], other[:, :, ::-1])
        )
        for one in test
    ]
    assert report["test"]["median"] == pytest.approx(np.median(expected), rel=1e-4)
    assert report["threshold"] == pytest.approx(np.median(expected) / 2, rel=1e-4)
    assert report["samples"]["near_copies"] == 2
    assert report["samples"]["smallest"] == pytest.approx(0, abs=1e-6)
    alone = count_volume_copies(sets, volumes | {"train": []})
    nothing = {"median": None, "smallest": None, "near_copies": None, "volumes": 0}
    assert alone == {"threshold": None, "test": nothing, "samples": nothing}
