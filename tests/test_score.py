"""The command `vqdist score`."""

import csv
import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image
from support import ALONE, run_on_ranks, save_prior, save_vqvae, write_codes, write_images
from support.lesions import draw_brain, draw_disc, plant_lesion
from support.volumes import save_oriented

from vqdist import complete, load_model, score
from vqdist.config.command_options import SampleOptions
from vqdist.data.sources.volumes import open_volume
from vqdist.foundation.command import run_command
from vqdist.foundation.errors import UserError
from vqdist.inference.anomaly import training_slices
from vqdist.inference.sampling import sample
from vqdist.inference.scoring import open_healthy

KINDS = ("dark", "bright")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `prior` conditioned on the slice number, its `images`, and `pictures` with lesions and their `masks`."""
    folder = tmp_path_factory.mktemp("score")
    codes = write_codes(folder / "codes", save_vqvae(folder / "run"), write_images(folder / "images"))
    save_prior(folder / "prior", codes, condition="slice")
    for name in ("pictures", "masks"):
        (folder / name).mkdir()
    rows = []
    for subject in (5, 6):
        for index, number in enumerate((0, 10, 20)):
            image, mask = plant_lesion(draw_brain(subject, number), number, value=(20, 255)[index % 2], radius=2.5)
            stem = f"case_{subject}_slice_{number}"
            Image.fromarray(image).save(folder / "pictures" / f"{stem}_lesion.png")
            Image.fromarray(mask).save(folder / "masks" / f"{stem}_mask.png")
            rows.append((f"{stem}_mask.png", KINDS[index % 2]))
    with (folder / "masks" / "lesions.csv").open("w") as file:
        csv.writer(file).writerows([("mask", "kind"), *rows])
    return folder


def words(options: dict[str, object]) -> list[str]:
    return [str(part) for name, value in options.items() for part in (f"--{name.replace('_', '-')}", value)]


def run_score(folder: Path, out: Path, capsys: pytest.CaptureFixture[str], **options: object) -> dict[str, Any]:
    given = {"prior": folder / "prior", "out": out, "restorations": 3, "device": "cpu"}
    if "data" not in options:
        given["pictures"] = folder / "pictures"
    capsys.readouterr()
    assert run_command(score.main, words(given | options)) == 0
    return json.loads(capsys.readouterr().out)


def read_lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "scores.jsonl").read_text().splitlines()]


def read(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_healthy_volumes_are_refused_with_the_option_that_takes_them(tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").touch()
    with pytest.raises(UserError, match=f"--healthy {tmp_path}: found NIfTI volumes.*and give `--healthy DATA`"):
        open_healthy(str(tmp_path), 1)


def test_files_and_bits_without_healthy_slices(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "out"
    report = run_score(folder, out, capsys)
    assert report == {"out": str(out), "samples": 6, "figures": [str(out / "figures" / "slices.png")]}
    lines = read_lines(out)
    assert [line["key"] for line in lines] == sorted(line["key"] for line in lines)
    prior = load_model(folder / "prior")
    vqvae = load_model(folder / "prior" / "model" / "vqvae")
    for line in lines:
        picture = read(folder / "pictures" / f"{line['key']}.png")
        codes = vqvae.encode(torch.from_numpy(picture.copy())[None, None].float() / 255)
        bits = float(prior.bits(codes, slice=line["slice"]).double().sum())
        assert line["bits"] == pytest.approx(bits, rel=1e-5)
        assert line["bits_per_code"] == pytest.approx(bits / 64, rel=1e-5)
        assert (line["flagged"], line["p_value"]) == (None, None)
        assert line["slice"] == int(line["key"].split("_")[3])
        exact, shown = np.load(out / "maps" / f"{line['key']}.npy"), read(out / "maps" / f"{line['key']}.png")
        assert exact.dtype == np.float32
        assert exact.shape == shown.shape == picture.shape
        assert 0 <= exact.min() < exact.max() <= 1
        np.testing.assert_allclose(shown, exact * 255, atol=0.51)
        assert (exact[picture == 0] == 0).all()
        assert read(out / "restored" / f"{line['key']}.png").shape == picture.shape
    one = folder / "pictures" / "case_5_slice_0_lesion.png"
    run_score(folder, out, capsys, pictures=one, overwrite="true")
    assert sorted(path.name for path in (out / "maps").iterdir()) == [f"{one.stem}.npy", f"{one.stem}.png"]


def test_metrics_beside_the_baselines(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    healthy = f"{folder / 'images'}:test"
    report = run_score(
        folder, tmp_path / "out", capsys, masks=folder / "masks", healthy=healthy, false_positive_rate=0.5
    )
    metrics = report["metrics"]
    names = ("pixel_ap", "pixel_auroc", "best_dice", "dice_at_healthy_limit", "image_auroc")
    methods = {"reconstruction_error", "reconstruction_error_blurred", "deviation", "deviation_blurred", "bits"}
    assert set(metrics["baselines"]) == methods
    for figures in (metrics, *metrics["baselines"].values(), metrics["per_kind"]["dark"]):
        assert all(0 <= figures[name] <= 1 for name in names), figures
    assert metrics["intervals"] == dict.fromkeys(("pixel_ap", "pixel_auroc", "best_dice", "image_auroc"))  # 2 people
    assert {kind: found["slices"] for kind, found in metrics["per_kind"].items()} == {"bright": 2, "dark": 4}
    assert sum(found["slices"] for found in metrics["per_size"].values()) == 6
    assert (metrics["lesion_slices"], metrics["image_negatives"]) == (6, "healthy")
    assert metrics["baselines"]["deviation"]["pixel_auroc"] > 0.6  # the lesions are far from the training mean
    assert len(report["figures"]) == 2
    lines = read_lines(tmp_path / "out")
    assert report["flagged"] == sum(line["flagged"] for line in lines)
    assert all(0 < line["p_value"] <= 1 for line in lines)
    assert all(line["flagged"] == (line["score"] > report["threshold"]) for line in lines)
    assert all(line["flagged"] == (line["p_value"] <= 0.5) for line in lines)


def test_healthy_slices_of_the_same_people_are_flagged_at_the_chosen_rate(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No slice is compared with slices of its own subject, whether it is scored or a healthy slice."""
    images = folder / "images"
    report = run_score(
        folder, tmp_path / "out", capsys, data=images, split="train", healthy=f"{images}:train",
        false_positive_rate=0.5,
    )  # fmt: skip
    assert report["healthy"] == report["samples"] == 12
    assert report["training"] == 0  # they are the healthy ones
    assert report["flagged"] in (5, 6)  # each is also one of the healthy slices, whose signals are rounded


def test_masks_in_the_folder_of_the_pictures_and_slices_without(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    for path in (*(folder / "pictures").iterdir(), *(folder / "masks").glob("case_5*.png")):
        (mixed / path.name).write_bytes(path.read_bytes())
    report = run_score(folder, tmp_path / "out", capsys, pictures=mixed, masks=mixed)
    assert report["samples"] == 6
    assert (report["metrics"]["lesion_slices"], report["metrics"]["image_negatives"]) == (3, "scored")
    assert report["metrics"]["dice_at_healthy_limit"] is None


def test_a_picture_of_another_size(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(draw_brain(2, 9)[3:27]).resize((90, 70)).save(tmp_path / "wide.png")
    run_score(folder, tmp_path / "out", capsys, pictures=tmp_path / "wide.png", condition="slice=9")
    assert read(tmp_path / "out" / "maps" / "wide.png").shape == (70, 90)
    assert read(tmp_path / "out" / "restored" / "wide.png").shape == (70, 90)


def test_samples_are_scored_and_completed_as_they_were_written(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sampled, mask = tmp_path / "samples", tmp_path / "mask.png"
    sample(SampleOptions(prior=folder / "prior", out=sampled, num=2, slice=10), ALONE)
    run_score(folder, tmp_path / "scores", capsys, pictures=sampled, healthy=sampled)
    lines = read_lines(tmp_path / "scores")
    assert [(line["key"], line["slice"]) for line in lines] == [("sample-00000", 10), ("sample-00001", 10)]
    Image.fromarray(draw_disc(32, (16, 16), 4)).save(mask)
    given = {"prior": folder / "prior", "pictures": sampled, "mask": mask, "out": tmp_path / "out", "num": 1}
    assert run_command(complete.main, words(given | {"device": "cpu"})) == 0
    described = json.loads((tmp_path / "out" / "completions.json").read_text())["slices"]
    assert [(found["key"], found["slice"]) for found in described] == [("sample-00000", 10), ("sample-00001", 10)]
    run_score(folder, tmp_path / "scores", capsys, pictures=tmp_path / "out", overwrite="true")
    assert [(line["key"], line["slice"]) for line in read_lines(tmp_path / "scores")] == [
        ("sample-00000-0", 10),
        ("sample-00001-0", 10),
    ]


@pytest.mark.parametrize("option", ["prior", "pictures", "data", "healthy", "masks"])
def test_the_option_of_an_unusable_path_is_named(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    given = {"prior": folder / "prior", "out": tmp_path / "out", "device": "cpu", option: tmp_path / "nothing"}
    given |= {} if option == "data" else {"pictures": given.get("pictures", folder / "pictures")}
    assert run_command(score.main, words(given)) == 2
    assert f"error: --{option} {tmp_path / 'nothing'}: found n" in capsys.readouterr().err


def test_too_few_healthy_slices_flag_none(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = {"prior": folder / "prior", "pictures": folder / "pictures", "healthy": folder / "images", "device": "cpu"}
    assert run_command(score.main, words(given | {"out": tmp_path / "out", "restorations": 1})) == 0
    written = capsys.readouterr()
    report = json.loads(written.out)
    assert (report["flagged"], report["threshold"]) == (0, None)
    assert {line["flagged"] for line in read_lines(tmp_path / "out")} == {False}
    assert written.err.count("--false-positive-rate 0.05 needs 19 healthy slices") == 1
    assert "none of 6 slices flagged: too few healthy slices" in written.err


def test_the_flagged_slices_are_counted(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = {"prior": folder / "prior", "pictures": folder / "pictures", "healthy": folder / "images", "device": "cpu"}
    flags = {"out": tmp_path / "out", "restorations": 1, "false_positive_rate": 0.3}
    assert run_command(score.main, words(given | flags)) == 0
    written = capsys.readouterr()
    report = json.loads(written.out)
    limit = f"(score above {report['threshold']:.3g}); {tmp_path / 'out' / 'scores.jsonl'} has all scores\n"
    assert f"{report['flagged']} of 6 slices flagged {limit}" in written.err
    assert "limits from 3 slices of 1 subject and 12 training slices: with so few people" in written.err
    assert (report["healthy"], report["training"]) == (3, 12)
    assert "that the prior draws" not in written.err
    alone = given | {"out": tmp_path / "alone", "restorations": 1, "healthy": "null"}
    assert run_command(score.main, words(alone)) == 0
    scores = f"{tmp_path / 'alone' / 'scores.jsonl'} has bits and score of 6 slices; --healthy DIR adds p-values"
    drawn = "without --healthy, slices are compared with 32 that the prior draws for each of their conditions\n"
    said = capsys.readouterr().err
    assert drawn in said
    assert scores in said


def test_training_slices_of_another_size_are_explained(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_slices, "open_recorded_codes", lambda prior: None)  # as of a model without its run
    other = write_images(tmp_path / "large", size=64)
    given = {"prior": folder / "prior", "pictures": folder / "pictures", "healthy": other, "device": "cpu"}
    assert run_command(score.main, words(given | {"out": tmp_path / "out", "restorations": 1})) == 0
    fault = f"--data: {other} has 12 train slices of 64 x 64 pixels, but the VQ-VAE takes 32 x 32: shard them with"
    assert fault in capsys.readouterr().err


@pytest.mark.ranks
def test_two_ranks_write_the_same_files(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = {"masks": folder / "masks", "healthy": f"{folder / 'images'}:validate"}
    alone = run_score(folder, tmp_path / "on-1", capsys, **given)
    more = {"prior": folder / "prior", "pictures": folder / "pictures", "restorations": 3, "out": tmp_path / "on-2"}
    outputs = run_on_ranks("score", *words(more | given), ranks=2).outputs
    together = json.loads(outputs[0])
    assert together["metrics"] == alone["metrics"]
    assert outputs[1] == ""
    files = ({str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}
             for out in (tmp_path / "on-1", tmp_path / "on-2"))  # fmt: skip
    one, two = files
    assert len(one) == 3 * 6 + 3
    assert one == two


def test_a_used_folder_is_refused(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").touch()
    given = {"prior": folder / "prior", "pictures": folder / "pictures", "out": tmp_path}
    assert run_command(score.main, words(given)) == 2
    assert "found a folder that is not empty; expected an empty or new one, or --overwrite" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_all_problems_are_reported_together(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def fails_with(*expected: str, **options: object) -> None:
        given = {"prior": folder / "prior", "pictures": folder / "pictures", "out": tmp_path / "out", "device": "cpu"}
        arguments = words({name: value for name, value in (given | options).items() if value is not None})
        assert run_command(score.main, arguments) == 2
        message = capsys.readouterr().err
        assert all(part in message for part in expected), message
        assert not (tmp_path / "out").exists()

    other = tmp_path / "other"
    other.mkdir()
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(other / "unrelated_7.png")
    fails_with("--pictures and --data: found neither; expected one of them", pictures=None)
    fails_with("kind: found vqvae; expected pixelcnn: pass the run of the PixelCNN", prior=folder / "run")
    fails_with("2 problems", "--restorations: found 0", "--restore-percentile", restorations=0, restore_percentile=100)
    fails_with(
        "2 problems", "--condition slice: found 99", "nowhere", condition="slice=99", healthy=tmp_path / "nowhere"
    )
    fails_with(
        "images: found no split 'valid'; expected", "; did you mean validate?", healthy=f"{folder / 'images'}:valid"
    )
    fails_with("no mask of any of 6 slices", masks=other)
    vqvae = {"prior": folder / "run", "masks": other}
    fails_with("2 problems", "no mask of any of 6 slices", "found vqvae; expected pixelcnn", **vqvae)
    data = {"pictures": None, "data": folder / "images", "split": "train"}
    fails_with("2 problems", "no mask of any of", "found vqvae; expected pixelcnn", **vqvae, **data)
    fails_with("2 problems", "nowhere: found nothing", "expected pixelcnn", **(vqvae | {"masks": tmp_path / "nowhere"}))
    fails_with("a dataset of codes; expected a dataset of images", pictures=None, data=folder / "codes")


@pytest.mark.parametrize("axes", ["LAS", "PIR"])
def test_the_map_of_a_volume_has_its_voxels(
    axes: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    volume = save_oriented(tmp_path / "scan.nii.gz", axes, angle=12.0)
    report = run_score(folder, tmp_path / "out", capsys, pictures=volume)
    assert report["samples"] == 16
    lines = read_lines(tmp_path / "out")
    assert [line["slice"] for line in lines] == list(range(16))
    maps = np.stack([np.load(tmp_path / f"out/maps/{line['key']}.npy") for line in lines])
    source, found = nibabel.load(volume), nibabel.load(tmp_path / "out/maps/scan.nii.gz")
    np.testing.assert_array_equal(found.affine, source.affine)
    assert (found.shape, found.get_data_dtype()) == (source.shape, np.float32)
    in_slices = np.asarray(nibabel.as_closest_canonical(found).dataobj)
    # 20 x 24 voxels in the middle of a square of 24, shown as 32 x 32 pixels
    expected = np.stack([np.asarray(Image.fromarray(one).resize((24, 24), Image.Resampling.BILINEAR)) for one in maps])
    np.testing.assert_allclose(in_slices, expected[:, 2:22].transpose(1, 2, 0), atol=1e-5)
    assert in_slices.max() > 0.1
    assert in_slices.std(axis=(0, 1)).max() > 0


def read_canonical(path: Path) -> np.ndarray:
    return np.asarray(nibabel.as_closest_canonical(nibabel.load(path)).dataobj, np.float32)


@pytest.mark.parametrize("axes", ["LAS", "PIR"])
def test_the_restored_volume_has_the_voxels_and_grey_values_of_the_volume(
    axes: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    volume, out = save_oriented(tmp_path / "scan.nii.gz", axes, angle=12.0), tmp_path / "out"
    run_score(folder, out, capsys, pictures=volume)
    source, found = nibabel.load(volume), nibabel.load(out / "restored/scan.nii.gz")
    np.testing.assert_array_equal(found.affine, source.affine)
    assert (found.shape, found.get_data_dtype()) == (source.shape, source.get_data_dtype())
    pictures = [Image.open(out / f"restored/{line['key']}.png") for line in read_lines(out)]
    shown = np.stack([np.asarray(one.resize((24, 24), Image.Resampling.BILINEAR), np.float32) for one in pictures])
    white = open_volume(volume, image_size=32).limits[1]
    expected = shown[:, 2:22].transpose(1, 2, 0) / 255 * white
    for line in read_lines(out):  # the numbers of the slices are from bottom to top
        part = np.asarray(found.dataobj, np.float32).take(line["voxel_slice"], axis=line["voxel_axis"])
        np.testing.assert_allclose(
            np.sort(part.ravel()), np.sort(expected[..., line["slice"]].ravel()), atol=white / 100
        )
    restored = read_canonical(out / "restored/scan.nii.gz")
    np.testing.assert_allclose(restored, expected, atol=white / 100)
    assert restored.max() > white / 10
    assert np.abs(restored[::-1] - expected).max() > white / 10
