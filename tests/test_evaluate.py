"""The command `vqdist evaluate`."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import run_on_ranks, save_prior, save_vqvae, write_codes, write_images
from support.third_party_shards import encode_picture, write_tar
from support.volumes import save_oriented

from vqdist import evaluate
from vqdist.foundation.command import run_command


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`images`, an untrained VQ-VAE `run`, its `codes`, and an untrained `prior`; never changed."""
    folder = tmp_path_factory.mktemp("evaluate")
    codes = write_codes(folder / "codes", save_vqvae(folder / "run"), write_images(folder / "images"))
    save_prior(folder / "prior", codes, condition="label+slice")
    return folder


def run_evaluate(capsys: pytest.CaptureFixture[str], **options: object) -> tuple[dict[str, Any], str]:
    """Run the command; return its report and what it wrote to stderr."""
    arguments = [str(part) for name, value in options.items() for part in (f"--{name.replace('_', '-')}", value)]
    code = run_command(evaluate.main, [*arguments, "--device", "cpu"])
    written = capsys.readouterr()
    assert code == 0, written.err
    return json.loads(written.out), written.err


def test_report_and_table(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, figures = tmp_path / "reports" / "test.json", tmp_path / "figures"
    nulls = dict.fromkeys(("samples", "images", "pictures"), "null")
    options = {"run": folder / "run", "data": folder / "images", "split": "test"}
    report, table = run_evaluate(capsys, **options, out=out, figures=figures, **nulls)
    assert json.loads(out.read_text()) == report
    assert list(report) == ["task", "split", "samples", "subjects", "metrics", "model", "figures"]
    metrics = report["metrics"]
    lines = {line.split()[0]: line.split()[1:] for line in table.splitlines() if line.startswith("  ")}
    assert set(lines) == set(metrics)
    mean, low, to, high = lines["ssim"]
    assert to == "to"
    assert [float(mean), float(low), float(high)] == pytest.approx(list(metrics["ssim"].values()), rel=1e-3)
    assert lines["codes_used"] == [f"{metrics['codes_used']['mean']:g}"]
    assert table.startswith(
        f"evaluate: loading {folder / 'run'}, {folder / 'images'} ...\nevaluate test: 9 slices, in "
    )
    assert "test: 9 samples of 3 subjects; mean, 95 % interval over subjects\n" in table
    assert f"look at the figures in {figures}\n" in table


def test_the_table_of_pictures_has_no_metrics_inside_the_brain(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = shutil.copytree(folder / "images", tmp_path / "pictures")
    manifest = json.loads((data / "dataset.json").read_text())
    (data / "dataset.json").write_text(json.dumps(manifest | {"source": {"layout": "imagefolder"}}))
    report, table = run_evaluate(capsys, run=folder / "run", data=data, figures="null")
    assert report["metrics"]["ssim_brain"]["mean"] is report["metrics"]["psnr_brain"]["mean"] is None
    assert "  ssim " in table
    assert "_brain" not in table


def test_samples_have_rows_in_the_table(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, grey in (("a.png", 60), ("b.png", 90)):
        Image.new("L", (32, 32), grey).save(tmp_path / name)
    report, table = run_evaluate(capsys, run=folder / "run", data=folder / "images", samples=tmp_path, figures="null")
    assert report["split"] == "validate"  # the default: test is for the end
    assert "validate: 3 samples of 1 subject; mean (no interval below 3 subjects)" in table
    lines = table.splitlines()
    rows = lines[lines.index("2 samples beside real slices of train and validate, 95 % intervals") + 1 :]
    for name in ("feature distance to validate", "near copies", "coverage of validate", "left-right similarity"):
        assert any(row.startswith(f"  {name} ") for row in rows), name


def test_pictures(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pixels = np.random.default_rng(0).integers(256, size=(40, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "wide.jpg")
    report, table = run_evaluate(
        capsys, run=folder / "run", pictures=tmp_path / "wide.jpg", figures=tmp_path / "out", out=tmp_path / "out.json"
    )
    overview = tmp_path / "out" / "reconstructions.png"
    assert (report["task"], report["pictures"], report["overview"]) == ("vqvae", 1, str(overview))
    assert f"look at {overview}, and at each picture" in table
    assert (tmp_path / "out" / "pictures" / "0000-wide.png").is_file()
    assert json.loads((tmp_path / "out.json").read_text()) == report


def test_pictures_for_a_model_of_third_party_photographs_have_no_metrics_inside_the_brain(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    members = {f"{number}.jpg": encode_picture(number, "JPEG", (32, 32)) for number in range(4)}
    for name in ("train", "validate"):
        write_tar(tmp_path / "shards" / f"{name}-0.tar", members)
    run = save_vqvae(tmp_path / "run", channels=3)
    (run / "config.yaml").write_text(f"task: vqvae\ndata:\n  path: {tmp_path / 'shards'}\n")
    (tmp_path / "photograph.jpg").write_bytes(members["3.jpg"])
    report, table = run_evaluate(capsys, run=run, pictures=tmp_path / "photograph.jpg", figures=tmp_path / "out")
    assert report["metrics"]["ssim_brain"] is report["metrics"]["psnr_brain"] is None
    assert "  ssim " in table
    assert "_brain" not in table


def test_a_run_whose_figures_cannot_be_written_is_evaluated(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = save_vqvae(tmp_path / "run")
    (run / "config.yaml").touch()
    (run / "figures").touch()  # a file instead of a folder stops root, too
    report, messages = run_evaluate(capsys, run=run, data=folder / "images")
    assert f"{run / 'figures'}: no figures drawn" in messages
    assert report["figures"] == []
    assert report["metrics"]["ssim"]["mean"] is not None


@pytest.mark.ranks
@pytest.mark.parametrize(("task", "ranks"), [("vqvae", 2), ("pixelcnn", 3)])
def test_ranks_report_the_same(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], task: str, ranks: int
) -> None:
    samples = tmp_path / "samples"
    samples.mkdir()
    for name, grey in (("a.png", 60), ("b.png", 90)):
        Image.new("L", (32, 32), grey).save(samples / name)
    run, data = ("run", "images") if task == "vqvae" else ("prior", "codes")
    options = {"run": folder / run, "data": folder / data, "split": "test", "samples": samples, "batch_size": 2}
    alone, _ = run_evaluate(capsys, **options)
    assert alone["task"] == task
    words = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", value)]
    main, *others = run_on_ranks("evaluate", *words, ranks=ranks).outputs
    assert main.count("\n") == 1
    assert json.loads(main) == alone
    assert not any(others)


def test_all_problems_are_reported_together(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def fails_with(*expected: str, **options: object) -> None:
        arguments = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
        assert run_command(evaluate.main, [*arguments, "--device", "cpu"]) == 2
        written = capsys.readouterr()
        assert all(part in written.err for part in expected), written.err
        assert not written.out

    run, images, nowhere = folder / "run", folder / "images", tmp_path / "nowhere"
    file = images / "dataset.json"
    fails_with("error: --out: found", "which is a folder", run=run, data=images, out=images)
    fails_with("error: --figures: found", "which is a file", run=run, data=images, figures=file)
    fails_with("3 problems", "--figures", "a picture", "--seed", run=run, pictures=nowhere, figures=file, seed=1)
    everything = dict.fromkeys(("run", "data", "samples", "images"), nowhere) | {"batch-size": "x"}
    fails_with("6 problems", "--batch-size: found 'x'; expected int", **everything, out=file / "new")
    fails_with("--beside: found runs beside --pictures; expected --data", run=run, pictures=images, beside=run)
    fails_with("--data and --pictures: found neither", run=run)
    fails_with("--run: found nothing; expected a value: it is required", data=images)


def test_a_saved_model_without_figures_says_so(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = folder / "run" / "model"
    report, said = run_evaluate(capsys, run=model, data=folder / "images")
    assert "figures" not in report
    assert f"no figures: {model} is a saved model and not a run; --figures FOLDER draws them" in said
    _, said = run_evaluate(capsys, run=model, data=folder / "images", figures="null")
    assert "no figures" not in said


def test_photographs_have_no_brain_in_the_table_of_pictures(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("L", (32, 32), 90).save(tmp_path / "a.png")
    run = save_vqvae(tmp_path / "run")
    images = tmp_path / "images"
    shutil.copytree(folder / "images", images)
    (run / "config.yaml").write_text(f"task: vqvae\ndata: {{path: {images}}}\n")
    for layout, shown in (("imagefolder", False), ("oasis-png", True)):
        manifest = json.loads((images / "dataset.json").read_text())
        (images / "dataset.json").write_text(json.dumps(manifest | {"source": {"layout": layout}}))
        report, said = run_evaluate(capsys, run=run, pictures=tmp_path / "a.png")
        assert ("ssim_brain" in said) is (report["metrics"]["ssim_brain"] is not None) is shown


def test_a_volume_is_reconstructed_as_a_volume(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, run = save_oriented(tmp_path / "head.nii.gz", "RAS"), save_vqvae(tmp_path / "run")
    figures = tmp_path / "out"
    report, said = run_evaluate(capsys, run=run, pictures=source, figures=figures)
    assert report["volume"] == str(figures / "head-reconstructed.nii.gz")
    assert Path(report["volume"]).is_file()
    assert f"look at {report['volume']}" in said


def test_samples_of_photographs_have_no_figures_of_brains(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, samples = shutil.copytree(folder / "images", tmp_path / "pictures"), tmp_path / "samples"
    manifest = json.loads((data / "dataset.json").read_text())
    (data / "dataset.json").write_text(json.dumps(manifest | {"source": {"layout": "imagefolder"}}))
    samples.mkdir()
    for name, grey in (("a.png", 60), ("b.png", 90)):
        Image.new("L", (32, 32), grey).save(samples / name)
    options = {"run": folder / "run", "data": data, "samples": samples, "split": "test"}
    report, table = run_evaluate(capsys, **options, figures=tmp_path / "figures")
    assert "anatomy_by_slice" not in report["realism"]
    assert "near copies" in table
    assert "fine detail, dB" in table
    assert "brain" not in table
    assert (tmp_path / "figures" / "samples-test.png").is_file()


def test_slices_of_another_size_than_in_training(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(folder / "run", tmp_path / "run")
    card = run / "model" / "config.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | {"image_size": [64, 64]}))
    _, said = run_evaluate(capsys, run=run, data=folder / "images", figures="null")
    sizes = f"{folder / 'images'} has slices of 32 x 32, {run} was trained on slices of 64 x 64"
    assert f"WARNING: {sizes}; its figures are not comparable\n" in said
