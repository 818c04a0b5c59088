"""The whole report from Python: metrics, more models, comparison of samples, figures."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from support import ALONE, save_vqvae

from vqdist.config.command_options import EvaluateOptions, SampleOptions
from vqdist.data.shards.manifest import load_manifest
from vqdist.data.shards.reader import ShardReader
from vqdist.evaluation.evaluate import evaluate
from vqdist.evaluation.report_table import describe_report
from vqdist.evaluation.samples import charts
from vqdist.foundation.errors import ConfigError, UserError
from vqdist.inference.sampling import sample
from vqdist.plotting import vqvae_charts


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory, prior: Path) -> Path:
    """Six samples of the prior."""
    out = tmp_path_factory.mktemp("report") / "samples"
    sample(SampleOptions(prior=prior, out=out, num=6), ALONE)
    return out


def test_more_models_are_measured_and_drawn_beside(images: Path, vqvae: Path, tmp_path: Path) -> None:
    others = [save_vqvae(tmp_path / name, num_codes=codes) for name, codes in (("a", 32), ("b", 64))]
    options = {"data": images, "split": "test"}
    report = evaluate(EvaluateOptions(run=vqvae, **options, figures=tmp_path / "figures", beside=others), ALONE)
    assert str(tmp_path / "figures" / "rates-test.png") in report["figures"]
    for name, other in zip("ab", others, strict=True):
        alone = evaluate(EvaluateOptions(run=other, **options), ALONE)
        assert report["beside"][name] == alone["metrics"]
        ssim, other_ssim = report["metrics"]["ssim"]["mean"], alone["metrics"]["ssim"]["mean"]
        assert report["differences"][name]["ssim"]["mean"] == pytest.approx(ssim - other_ssim)


@pytest.mark.parametrize("task", ["vqvae", "pixelcnn"])
def test_samples_are_compared_with_real_slices(
    images: Path, vqvae: Path, codes: Path, prior: Path, samples: Path, tmp_path: Path, task: str
) -> None:
    model = {"run": vqvae, "data": images} if task == "vqvae" else {"run": prior, "data": codes}
    report = evaluate(EvaluateOptions(**model, split="test", samples=samples, figures=tmp_path / "figures"), ALONE)
    assert report["task"] == task
    realism = report["realism"]
    assert realism["samples"] == 6
    # The samples of untrained models do not resemble a brain.
    distances = {name: found["mean"] for name, found in realism["feature_distance"].items() if name.endswith("_test")}
    assert distances["samples_test"] > 5 * abs(distances["train_test"])
    assert realism["coverage"]["samples"]["coverage"]["mean"] < realism["coverage"]["train"]["coverage"]["mean"]
    assert realism["copies"]["samples"]["slices"] == 6
    assert realism["copies"]["samples"]["near_copies"] == 0
    assert realism["diversity"]["test"] < 1
    assert realism["anatomy_by_slice"]["brain_area"]["test"]["slices"] == 0  # too few: four subjects in train
    means = realism["anatomy_by_slice"]["means"]
    assert {(found["group"], found["slice"], found["slices"]) for found in means if found["group"] != "samples"} == {
        (group, number, count)
        for group, count in (("train", 4), ("test", 3), ("reconstructions", 3))
        for number in (0, 10, 20)
    }
    assert sum(found["slices"] for found in means if found["group"] == "samples") == 6
    reader = ShardReader(images, load_manifest(images), "train")
    for number in range(1, 12, 3):
        (tmp_path / f"{number}.png").write_bytes(reader.read(number)["png"])
    area = np.mean([np.asarray(Image.open(path)) > 0.1 * 255 for path in tmp_path.glob("*.png")])
    (found,) = (found for found in means if (found["group"], found["slice"]) == ("train", 10))
    assert found["brain_area"] == pytest.approx(area, rel=0.1)
    for figure in report["figures"]:
        with Image.open(figure) as picture:
            assert np.asarray(picture.convert("L")).std() > 5
    expected = {"reconstructions-test.png", "codebook-test.png"} if task == "vqvae" else set()
    assert {Path(figure).name for figure in report["figures"]} == {*expected, "samples-test.png", "samples-nearest.png"}


def test_real_slices_as_samples(images: Path, vqvae: Path, tmp_path: Path) -> None:
    for split, number in (("test", 0), ("test", 4), ("test", 8), ("train", 7)):
        reader = ShardReader(images, load_manifest(images), split)
        (tmp_path / f"{split}-{number}.png").write_bytes(reader.read(number)["png"])
    realism = evaluate(EvaluateOptions(run=vqvae, data=images, split="test", samples=tmp_path), ALONE)["realism"]
    assert realism["copies"]["samples"]["near_copies"] == 1
    assert realism["copies"]["samples"]["largest"] == pytest.approx(1)
    nearest = realism["copies"]["nearest"][-1]
    assert (nearest["file"], nearest["train"], nearest["mirror"]) == ("train-7.png", "s2_10", "none")
    assert (nearest["whole"], nearest["half"]) == pytest.approx((1, 1))


def test_figures_name_the_split(images: Path, vqvae: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(
            ShardReader(images, load_manifest(images), "train").read(number)["png"]
        )
    texts: list[str] = []
    for module in (charts, vqvae_charts):
        monkeypatch.setattr(module, "save_figure", lambda figure, path: texts.extend(list_texts(figure)) or path)
    options = {"samples": tmp_path, "split": "validate", "figures": tmp_path / "figures"}
    report = evaluate(EvaluateOptions(run=vqvae, data=images, **options), ALONE)
    assert not [text for text in texts if re.search(r"\btest\b", text)]
    assert "3 samples beside 3 real validate slices" in texts
    assert any(text.startswith("Samples that are most similar to a training slice") for text in texts)
    assert "3 samples beside real slices of train and validate" in describe_report(report)


def test_pictures_are_not_judged_as_brains(
    images: Path, vqvae: Path, samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts: list[str] = []
    for module in (charts, vqvae_charts):
        monkeypatch.setattr(module, "save_figure", lambda figure, path: texts.extend(list_texts(figure)) or path)
    pictures = tmp_path / "images"
    shutil.copytree(images, pictures)
    manifest = json.loads((pictures / "dataset.json").read_text())
    (pictures / "dataset.json").write_text(json.dumps(manifest | {"source": {"layout": "imagefolder"}}))
    other = save_vqvae(tmp_path / "other", num_codes=32)
    given = {"samples": samples, "figures": tmp_path / "figures", "beside": [other]}
    report = evaluate(EvaluateOptions(run=vqvae, data=pictures, **given), ALONE)
    for metrics in (report["metrics"], report["beside"]["other"]):
        assert {name for name, found in metrics.items() if found["mean"] is None} == {
            "ssim_brain", "psnr_brain", "perplexity_brain",
        }  # fmt: skip
    assert set(report["differences"]["other"]) == {"ssim", "psnr", "mse"}
    assert set(report["realism"]["slice_figures"]) == {"meanings", "foreground_area", "fine_detail_db"}
    assert "anatomy_by_slice" not in report["realism"]
    table = describe_report(report, shows_brains=False)
    assert " foreground area " in table
    assert not re.search("brain|fluid|left-right|people|person", "\n".join([table, *texts]), re.IGNORECASE)


def test_pictures_for_a_model_of_pictures_have_no_metrics_of_brains(
    images: Path, vqvae: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("L", (32, 32), 99).save(tmp_path / "a.png")
    options = EvaluateOptions(run=vqvae, pictures=tmp_path / "a.png", figures=tmp_path / "figures")
    assert evaluate(options, ALONE)["metrics"]["ssim_brain"] is not None
    monkeypatch.setattr("vqdist.evaluation.evaluate.is_of_pictures", lambda options: options.run == vqvae)
    metrics = evaluate(options, ALONE)["metrics"]
    assert {name for name, mean in metrics.items() if mean is None} == {"ssim_brain", "psnr_brain"}


def list_texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text)]


def test_samples_of_another_size_are_named(images: Path, vqvae: Path, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        Image.new("L", (16, 16)).save(tmp_path / name)
    with pytest.raises(UserError, match=r"a\.png: found 16 x 16 pixels"):
        evaluate(EvaluateOptions(run=vqvae, data=images, samples=tmp_path), ALONE)


def test_conflicting_options_are_named(vqvae: Path, images: Path) -> None:
    with pytest.raises(ConfigError, match="--data and --pictures: found neither; expected one of them"):
        evaluate(EvaluateOptions(run=vqvae), ALONE)
    with pytest.raises(ConfigError, match=r"--run: found nothing at .*nope; expected the folder of a run"):
        evaluate(EvaluateOptions(run=vqvae.with_name("nope")), ALONE)
    with pytest.raises(ConfigError, match="--beside: found runs beside --pictures"):
        evaluate(EvaluateOptions(run=vqvae, pictures=images, beside=[vqvae]), ALONE)
