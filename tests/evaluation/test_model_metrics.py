"""Metrics of a model on a split against straightforward computations."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from skimage.metrics import peak_signal_noise_ratio
from support import ALONE, save_vqvae, write_images
from torchmetrics.functional.image import structural_similarity_index_measure

from vqdist import load_model
from vqdist.data.open_dataset import open_dataset
from vqdist.evaluation.model_metrics import compare_models, evaluate_pixelcnn, evaluate_vqvae, summarize
from vqdist.inference.split_loader import SplitLoader


def read_split(data: Path, split: str) -> tuple[torch.Tensor, list[dict[str, Any]]]:
    """Return values (images in [0, 1] or codes) and JSON of each sample."""
    loader = SplitLoader(open_dataset(data), split, batch_size=4)
    values = loader.load(np.arange(len(loader))).values
    infos = [loader.read_info(number) for number in range(len(loader))]
    return (values / 255 if values.dtype == torch.uint8 else values), infos


@pytest.mark.parametrize("channels", [1, 3])
def test_metrics_of_a_vqvae(tmp_path: Path, channels: int) -> None:
    images, run = write_images(tmp_path / "images", channels=channels), save_vqvae(tmp_path / "run", channels=channels)
    model = load_model(run)
    evaluation = evaluate_vqvae(model, SplitLoader(open_dataset(images), "test", batch_size=4), ALONE)
    report, found = evaluation.report, evaluation.report["metrics"]
    assert {name: report[name] for name in ("task", "split", "samples", "subjects")} == {
        "task": "vqvae", "split": "test", "samples": 9, "subjects": 3,
    }  # fmt: skip
    originals, infos = read_split(images, "test")
    codes = model.encode(originals)
    recon = model.decode(codes)
    ssim = structural_similarity_index_measure(recon, originals, data_range=1.0, reduction="none")
    psnr = [
        peak_signal_noise_ratio(a.numpy(), b.numpy(), data_range=1.0) for a, b in zip(originals, recon, strict=True)
    ]
    counts = np.bincount(codes.flatten(), minlength=16)
    shares = counts[counts > 0] / codes.numel()
    expected = {
        "ssim": ssim.mean().item(),
        "psnr": np.mean(psnr),
        "mse": ((originals - recon) ** 2).mean().item(),
        "perplexity": math.exp(-(shares * np.log(shares)).sum()),
        "codes_used": len(shares),
        "bits_per_pixel": 4 * 8 * 8 / (32 * 32),
    }
    cells = (originals > 0).any(dim=1).reshape(9, 8, 4, 8, 4).any(dim=4).any(dim=2)
    inside = np.bincount(codes[cells], minlength=16) / cells.sum().item()
    expected["perplexity_brain"] = math.exp(-sum(p * np.log(p) for p in inside if p))
    assert expected["perplexity_brain"] != pytest.approx(expected["perplexity"])
    assert set(found) == {*expected, "ssim_brain", "psnr_brain"}
    assert {name: found[name]["mean"] for name in expected} == pytest.approx(expected, rel=1e-5)
    np.testing.assert_array_equal(evaluation.code_counts, counts)
    np.testing.assert_allclose(evaluation.values["ssim"], ssim, rtol=1e-4)
    per_subject = [ssim[[info["subject"] == f"s{n:02d}" for info in infos]].mean().item() for n in (5, 6, 7)]
    expected_interval = stats.t.interval(0.95, 2, loc=np.mean(per_subject), scale=stats.sem(per_subject))
    assert (found["ssim"]["low"], found["ssim"]["high"]) == pytest.approx(expected_interval, abs=1e-4)
    assert found["perplexity"]["low"] is found["perplexity"]["high"] is None


def test_metrics_of_a_pixelcnn(codes: Path, prior: Path) -> None:
    model, dataset = load_model(prior), open_dataset(codes)
    split = SplitLoader(dataset, "validate", batch_size=2)
    report = evaluate_pixelcnn(model, dataset, split, ALONE).report
    assert (report["task"], report["split"], report["samples"], report["subjects"]) == ("pixelcnn", "validate", 3, 1)
    maps, infos = read_split(codes, "validate")
    with torch.no_grad():
        p = model(maps, slice=torch.tensor([info["slice"] for info in infos])).softmax(dim=1)
    bits = -torch.log2(p.gather(1, maps[:, None])).mean().item()
    found = {name: value["mean"] for name, value in report["metrics"].items()}
    assert found["bits_per_code"] == pytest.approx(bits, rel=1e-5)
    assert found["bits_per_pixel"] == pytest.approx(bits * 64 / 1024, rel=1e-5)
    assert found["uniform_bits_per_code"] == 4
    train = read_split(codes, "train")[0]
    counts = np.bincount(train.flatten(), minlength=16) + 0.5
    unigram = (counts / counts.sum())[maps.numpy()]
    assert found["unigram_bits_per_code"] == pytest.approx(-np.log2(unigram).mean())
    weight = report["baselines"]["weights"]["position"]["levels"][0][1]
    assert report["baselines"]["train_maps"] == len(train)
    assert found["bits_below_mixture"] == pytest.approx(found["mixture_bits_per_code"] - bits, rel=1e-4)
    mixed = weight * (train[None] == maps[:, None]).double().mean(dim=1).numpy() + (1 - weight) * unigram
    assert found["position_bits_per_code"] == pytest.approx(-np.log2(mixed).mean())
    assert 0 < weight < 1


def test_slices_without_brain_are_left_out_of_brain_metrics() -> None:
    values = {"ssim": np.array([0.2, 0.4, 0.6]), "ssim_brain": np.array([np.nan, 0.4, 0.6])}
    summary = summarize(values, ["a", "b", "b"])
    assert summary["ssim"]["mean"] == pytest.approx(0.4)
    assert summary["ssim_brain"] == {"mean": pytest.approx(0.5), "low": None, "high": None}  # one subject is left
    nothing = summarize({"ssim_brain": np.array([np.nan])}, ["a"])
    assert nothing == {"ssim_brain": {"mean": None, "low": None, "high": None}}


def test_a_nan_reconstruction_does_not_vanish() -> None:
    values = {"ssim": np.array([0.2, np.nan, 0.6]), "ssim_brain": np.array([0.1, np.nan, 0.6])}
    nothing = {"mean": None, "low": None, "high": None}
    assert summarize(values, ["a", "b", "c"]) == {"ssim": nothing, "ssim_brain": nothing}


def test_models_are_compared_by_paired_differences() -> None:
    subjects = [name for name in "abcd" for _ in range(3)]
    ours = np.repeat([0.5, 0.7, 0.2, 0.9], 3)
    theirs = ours - np.tile([0.01, 0.02, 0.03], 4) - np.repeat([0, 0, 0, 0.002], 3)
    found = compare_models({"ssim": ours, "psnr": ours}, {"ssim": theirs, "mse": theirs}, subjects)
    assert found.keys() == {"ssim"}
    by_subject = (ours - theirs).reshape(4, 3).mean(axis=1)
    expected = stats.t.interval(0.95, 3, loc=by_subject.mean(), scale=stats.sem(by_subject))
    assert (found["ssim"]["low"], found["ssim"]["high"]) == pytest.approx(expected, rel=1e-3)
