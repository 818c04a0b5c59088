"""`vqdist.evaluate`: the report's figures against straightforward sums, and on two ranks against one."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio
from small_runs import launch, save_prior, save_vqvae, write_codes, write_images
from torchmetrics.functional.image import structural_similarity_index_measure
from vqdist.evaluation.table import format_figure

from vqdist import evaluate, load_model, sample
from vqdist.data.shards.codecs import decode_codes, decode_png
from vqdist.data.shards.writer import ShardReader, ShardSetWriter, load_manifest
from vqdist.foundation.command import run_command


def run_evaluate(capsys: pytest.CaptureFixture[str], **options: object) -> dict[str, Any]:
    arguments = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
    code = run_command(evaluate.main, [*arguments, "--device", "cpu"])
    told = capsys.readouterr()
    assert code == 0, told.err
    return json.loads(told.out)


def read_split(data: Path, split: str) -> tuple[torch.Tensor, list[dict[str, Any]]]:
    manifest = load_manifest(data)
    reader = ShardReader(data, manifest, split)
    samples = [reader.read(index) for index in range(len(reader))]
    if manifest.kind == "images":
        size, channels = manifest.image_size, manifest.channels
        values = [decode_png(sample["png"], image_size=size, channels=channels) for sample in samples]
        return torch.tensor(np.stack(values)) / 255, [sample["json"] for sample in samples]
    grid, num_codes = manifest.grid, manifest.num_codes
    assert grid is not None
    assert num_codes is not None
    maps = [decode_codes(sample["npy"], grid=grid, num_codes=num_codes) for sample in samples]
    return torch.tensor(np.stack(maps)), [sample["json"] for sample in samples]


@pytest.mark.parametrize("channels", [1, 3])
def test_vqvae_report(tmp_path: Path, capsys: pytest.CaptureFixture[str], channels: int) -> None:
    images = write_images(tmp_path / "images", channels=channels)
    run, out = save_vqvae(tmp_path / "run", channels=channels), tmp_path / "reports" / "test.json"
    nothing = dict.fromkeys(("samples", "images", "pictures"), "null")
    report = run_evaluate(capsys, run=run, data=images, out=out, **nothing)
    assert json.loads(out.read_text()) == report
    assert {name: report[name] for name in ("task", "split", "samples", "subjects")} == {
        "task": "vqvae", "split": "test", "samples": 9, "subjects": 3,
    }  # fmt: skip
    model = load_model(run)
    originals, infos = read_split(images, "test")
    codes = model.encode(originals)
    recon = model.decode(codes)
    ssim = structural_similarity_index_measure(recon, originals, data_range=1.0, reduction="none")
    psnr = [
        peak_signal_noise_ratio(a.numpy(), b.numpy(), data_range=1.0) for a, b in zip(originals, recon, strict=True)
    ]
    shares = np.bincount(codes.flatten(), minlength=16) / codes.numel()
    shares = shares[shares > 0]
    expected = {
        "ssim": ssim.mean().item(),
        "psnr": np.mean(psnr),
        "mse": ((originals - recon) ** 2).mean().item(),
        "perplexity": math.exp(-(shares * np.log(shares)).sum()),
        "codes_used": len(shares),
        "bits_per_pixel": 4 * 8 * 8 / (32 * 32),
    }
    found = report["metrics"]
    assert set(found) == {*expected, "ssim_brain", "psnr_brain"}
    assert {name: found[name]["mean"] for name in expected} == pytest.approx(expected, rel=1e-5)
    per_subject = [ssim[[info["subject"] == f"s{n}" for info in infos]].mean().item() for n in (5, 6, 7)]
    # With three subjects, more than 2.5 % of the draws are one subject three times over.
    assert found["ssim"]["low"] == pytest.approx(min(per_subject), abs=1e-5)
    assert found["ssim"]["high"] == pytest.approx(max(per_subject), abs=1e-5)
    assert found["perplexity"]["low"] is found["perplexity"]["high"] is None


def test_a_person_is_shown_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, images, figures = save_vqvae(tmp_path / "run"), write_images(tmp_path / "images"), tmp_path / "figures"
    words = ["--run", run, "--data", images, "--figures", figures, "--device", "cpu"]
    assert run_command(evaluate.main, [str(word) for word in words]) == 0
    told = capsys.readouterr()
    metrics = json.loads(told.out)["metrics"]
    lines = {line.split()[0]: line.split()[1:] for line in told.err.splitlines() if line.startswith("  ")}
    assert set(lines) == set(metrics)
    mean, low, to, high = lines["ssim"]
    assert to == "to"
    expected = metrics["ssim"]
    assert [float(mean), float(low), float(high)] == pytest.approx(list(expected.values()), rel=1e-3)
    assert lines["codes_used"] == [f"{metrics['codes_used']['mean']:g}"]
    assert "test: 9 samples of 3 subjects; mean, 95 % interval over subjects\n" in told.err
    assert f"look at the figures in {figures}\n" in told.err


def test_more_runs_are_measured_and_drawn_beside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, run = write_images(tmp_path / "images"), save_vqvae(tmp_path / "run")
    others = [
        save_vqvae(tmp_path / name, num_codes=codes)
        for name, codes in (("a", 32), ("b", 64), ("again/a", 8), ("again/run", 4))
    ]
    arguments = ["--run", run, "--data", images, "--figures", tmp_path / "figures", "--device", "cpu", "--beside"]
    assert run_command(evaluate.main, [str(item) for item in [*arguments, *others]]) == 0
    report = json.loads(capsys.readouterr().out)
    assert list(report["beside"]) == [str(others[0]), "b", str(others[2]), str(others[3])]
    assert str(tmp_path / "figures" / "rates-test.png") in report["figures"]
    for other, found in zip(others, report["beside"].values(), strict=True):
        assert found == run_evaluate(capsys, run=other, data=images, figures="null")["metrics"]


def test_figures_are_short() -> None:
    assert [format_figure(value) for value in (None, 0.33425621, 16384, 22.0)] == ["none", "0.3343", "16,384", "22"]


def test_pixelcnn_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = save_vqvae(tmp_path / "run")
    codes = write_codes(tmp_path / "codes", run, write_images(tmp_path / "images"))
    prior = save_prior(tmp_path / "prior", codes, condition="slice")
    report = run_evaluate(capsys, run=prior, data=codes, split="validate")
    assert (report["task"], report["split"], report["samples"], report["subjects"]) == ("pixelcnn", "validate", 3, 1)
    maps, infos = read_split(codes, "validate")
    model = load_model(prior)
    with torch.no_grad():
        p = model(maps, slice=torch.tensor([info["slice"] for info in infos])).softmax(dim=1)
    bits = -torch.log2(p.gather(1, maps[:, None])).mean().item()
    found = {name: value["mean"] for name, value in report["metrics"].items()}
    assert found["bits_per_code"] == pytest.approx(bits, rel=1e-5)
    assert found["bits_per_pixel"] == pytest.approx(bits * 64 / 1024, rel=1e-5)
    assert found["uniform_bits_per_code"] == 4
    train = read_split(codes, "train")[0]
    counts = np.bincount(train.flatten(), minlength=16) + 0.5
    expected = -np.log2((counts / counts.sum())[maps.numpy()]).mean()
    assert found["unigram_bits_per_code"] == pytest.approx(expected)
    at_place = (train[None] == maps[:, None]).double().mean(dim=1).numpy()
    weight = report["baselines"]["position_weight"]
    mixed = weight * at_place + (1 - weight) * (counts / counts.sum())[maps.numpy()]
    assert found["position_bits_per_code"] == pytest.approx(-np.log2(mixed).mean())
    assert 0 < weight < 1


def test_a_run_that_takes_no_figures_is_measured_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, images = save_vqvae(tmp_path / "run"), write_images(tmp_path / "images")
    (run / "config.yaml").touch()
    (run / "figures").touch()  # a file: what nobody, not even root, can write into
    assert run_command(evaluate.main, ["--run", str(run), "--data", str(images), "--device", "cpu"]) == 0
    told = capsys.readouterr()
    assert f"{run / 'figures'}: no figures drawn" in told.err
    report = json.loads(told.out)
    assert report["figures"] == []
    assert report["metrics"]["ssim"]["mean"] is not None


@pytest.mark.ranks
@pytest.mark.parametrize("task", ["vqvae", "pixelcnn"])
def test_two_ranks_report_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str], task: str) -> None:
    run, data = save_vqvae(tmp_path / "run"), write_images(tmp_path / "images")
    if task == "pixelcnn":
        data = write_codes(tmp_path / "codes", run, data)
        run = save_prior(tmp_path / "prior", data, condition="label+slice")
    alone = run_evaluate(capsys, **{"run": run, "data": data, "batch-size": 2})
    assert alone["task"] == task
    done = launch("vqdist.evaluate", "--run", run, "--data", data, "--batch-size", 2, ranks=2)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    assert json.loads(done.stdout) == alone


def write_samples(prior: Path, out: Path, num: int = 6) -> Path:
    arguments = ["--prior", prior, "--out", out, "--num", num, "--device", "cpu"]
    assert run_command(sample.main, [str(item) for item in arguments]) == 0
    return out


@pytest.mark.parametrize("task", ["vqvae", "pixelcnn"])
def test_samples_are_held_against_real_slices(tmp_path: Path, capsys: pytest.CaptureFixture[str], task: str) -> None:
    run, images = save_vqvae(tmp_path / "run"), write_images(tmp_path / "images")
    codes = write_codes(tmp_path / "codes", run, images)
    prior = save_prior(tmp_path / "prior", codes, condition="slice")
    samples = write_samples(prior, tmp_path / "samples")
    capsys.readouterr()
    which = {"run": run, "data": images} if task == "vqvae" else {"run": prior, "data": codes}
    report = run_evaluate(capsys, **which, samples=samples, figures=tmp_path / "figures")
    assert report["task"] == task
    realism = report["realism"]
    assert realism["samples"] == 6
    # An untrained pair draws nothing like a brain.
    assert realism["feature_distance"]["samples_test"] > 5 * abs(realism["feature_distance"]["train_test"])
    assert realism["copies"]["samples"]["slices"] == 6
    assert realism["copies"]["samples"]["near_copies"] == 0
    assert realism["diversity"]["test"] < 1
    assert realism["anatomy_by_slice"]["brain_area"]["test"]["slices"] == 0  # four people in train: too few
    means = realism["anatomy_by_slice"]["means"]
    assert {(found["group"], found["slice"], found["slices"]) for found in means if found["group"] != "samples"} == {
        (group, number, count)
        for group, count in (("train", 4), ("test", 3), ("reconstructions", 3))
        for number in (0, 10, 20)
    }
    assert sum(found["slices"] for found in means if found["group"] == "samples") == 6
    area = (read_split(images, "train")[0][1::3] > 0.1).float().mean().item()
    (found,) = (found for found in means if (found["group"], found["slice"]) == ("train", 10))
    assert found["brain_area"] == pytest.approx(area, rel=0.1)
    for figure in report["figures"]:
        with Image.open(figure) as picture:
            assert np.asarray(picture.convert("L")).std() > 5
    drawn = {Path(figure).name for figure in report["figures"]}
    expected = {"reconstructions-test.png", "codebook-test.png"} if task == "vqvae" else set()
    assert drawn == {*expected, "samples-test.png", "samples-nearest.png"}


def test_real_slices_pass_for_samples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, images, folder = save_vqvae(tmp_path / "run"), write_images(tmp_path / "images"), tmp_path / "samples"
    folder.mkdir()
    for split, number in (("test", 0), ("test", 4), ("test", 8), ("train", 7)):
        reader = ShardReader(images, load_manifest(images), split)
        (folder / f"{split}-{number}.png").write_bytes(reader.read(number)["png"])
    realism = run_evaluate(capsys, run=run, data=images, samples=folder, figures="null")["realism"]
    assert realism["feature_distance"]["samples_test"] < 2 * abs(realism["feature_distance"]["train_test"])
    assert realism["copies"]["samples"]["near_copies"] == 1
    assert realism["copies"]["samples"]["smallest"] == 0
    assert realism["copies"]["nearest"][-1] == {"file": "train-7.png", "train": "s2_10", "mirror": "none", "ratio": 0}


def test_samples_that_do_not_fit_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, images, folder = save_vqvae(tmp_path / "run"), write_images(tmp_path / "images"), tmp_path / "samples"

    def fails_with(expected: str) -> None:
        arguments = ["--run", run, "--data", images, "--samples", folder, "--device", "cpu"]
        assert run_command(evaluate.main, [str(item) for item in arguments]) == 2
        assert expected in capsys.readouterr().err

    fails_with("samples: found 0 PNGs; expected at least two")
    folder.mkdir()
    for name in ("a.png", "b.png"):
        Image.new("L", (16, 16)).save(folder / name)
    fails_with("a.png: found 16 x 16 pixels")
    (folder / "samples.json").write_text('{"samples": [{"file": "../a.png"}]}')
    fails_with("samples.json: found no list of samples")


def test_a_split_of_one_slice_has_no_distances(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, images, folder = save_vqvae(tmp_path / "run"), write_images(tmp_path / "images"), tmp_path / "samples"
    folder.mkdir()
    few = tmp_path / "few"
    with ShardSetWriter(few, kind="images", image_size=(32, 32), channels=1, samples_per_shard=5) as writer:
        for split, numbers in (("train", (0, 1)), ("test", (2,))):
            reader = ShardReader(images, load_manifest(images), split)
            for number in numbers:
                sample = reader.read(number)
                writer.write(split, sample["__key__"], sample["png"], "png", sample["json"])
                (folder / f"{number}.png").write_bytes(sample["png"])
    arguments = ["--run", run, "--data", few, "--samples", folder, "--device", "cpu", "--figures", "null"]
    assert run_command(evaluate.main, [str(item) for item in arguments]) == 2
    assert f"{few}, test: found 1 slices; expected at least two, to hold samples against" in capsys.readouterr().err


def test_misfits_are_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, images = save_vqvae(tmp_path / "run"), write_images(tmp_path / "images")
    codes = write_codes(tmp_path / "codes", run, images)
    other = save_vqvae(tmp_path / "other", num_codes=8, seed=1)
    foreign = write_codes(tmp_path / "foreign", other, images)
    prior = save_prior(tmp_path / "prior", codes)

    def fails_with(*expected: str, **options: object) -> None:
        arguments = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
        assert run_command(evaluate.main, [*arguments, "--device", "cpu"]) == 2
        told = capsys.readouterr()
        assert all(part in told.err for part in expected), told.err
        assert not told.out

    fails_with("found a data set of codes; expected one of images", run=run, data=codes)
    fails_with("found a data set of images; expected one of codes", run=prior, data=images)
    fails_with("num_codes: found 8; expected 16", "VQ-VAE of the codes: found", run=prior, data=foreign)
    fails_with("--beside: found a PixelCNN as --run; expected a VQ-VAE", run=prior, data=codes, beside=run)
    fails_with("nowhere: found nothing", run=run, data=images, beside=tmp_path / "nowhere")
    fails_with("no split 'tset'", run=run, data=images, split="tset")
    nowhere, file = tmp_path / "nowhere", images / "dataset.json"
    fails_with("nowhere: found nothing", run=nowhere, data=images)
    fails_with("error: --out: found", "which is a folder", run=run, data=images, out=images)
    fails_with("error: --figures: found", "which is a file", run=run, data=images, figures=file)
    fails_with("2 problems", "--figures", "a picture", run=run, pictures=nowhere, figures=file)
    everything = dict.fromkeys(("run", "data", "samples", "images"), nowhere) | {"batch-size": "x"}
    fails_with("6 problems", "--batch-size: found 'x'; expected int", **everything, out=file / "new")
    with pytest.raises(SystemExit, match="2"):
        run_command(evaluate.main, ["--run", str(run), "--pictures", str(images), "--beside", str(run)])
    assert "--beside: found runs beside --pictures; expected --data" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        run_command(evaluate.main, ["--run", str(run)])
