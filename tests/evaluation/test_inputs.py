"""The inputs of an evaluation: every problem is named, before anything is computed."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from support import ALONE, save_vqvae, write_codes, write_image_set
from support.datasets import FEW

from vqdist.config.command_options import EvaluateOptions
from vqdist.data.shards.manifest import load_manifest
from vqdist.data.shards.reader import ShardReader
from vqdist.data.shards.writer import ShardSetWriter
from vqdist.evaluation.inputs import check_picture_inputs, read_inputs
from vqdist.foundation.errors import ConfigError


def fails_with(*expected: str, **options: object) -> None:
    read = check_picture_inputs if "pictures" in options else read_inputs
    with pytest.raises(ConfigError) as error:
        read(EvaluateOptions(**options), ALONE)
    assert len(error.value.problems) == len(expected), error.value
    assert all(part in str(error.value) for part in expected), error.value


def test_misfits_are_named(images: Path, vqvae: Path, codes: Path, prior: Path, tmp_path: Path) -> None:
    other = save_vqvae(tmp_path / "other", num_codes=8, seed=1)
    foreign, colour = write_codes(tmp_path / "foreign", other, images), save_vqvae(tmp_path / "colour", channels=3)
    fails_with("found a dataset of codes; expected a dataset of images", run=vqvae, data=codes)
    fails_with("found a dataset of images; expected a dataset of codes", run=prior, data=images)
    fails_with("num_codes: found 8; expected 16", "VQ-VAE of the codes: found", run=prior, data=foreign)
    fails_with("--beside: found a PixelCNN as --run; expected a VQ-VAE", run=prior, data=codes, beside=[vqvae])
    fails_with("channels: found 1; expected 3", run=vqvae, data=images, beside=[colour, colour])
    fails_with("no split 'tset'", run=vqvae, data=images, split="tset")
    fails_with("channels: found 1", "no split 'tset'", run=colour, data=images, split="tset")


def test_what_cannot_be_read_or_written_is_named(images: Path, vqvae: Path, tmp_path: Path) -> None:
    nowhere, file = tmp_path / "nowhere", images / "dataset.json"
    fails_with("nowhere: found nothing", run=nowhere, data=images)
    fails_with("nowhere: found nothing", run=vqvae, data=images, beside=[nowhere])
    fails_with("which is a folder; expected a file to write", run=vqvae, data=images, out=images)
    fails_with("--figures: found", run=vqvae, data=images, figures=file)
    fails_with("--figures: found", "expected a picture", run=vqvae, pictures=nowhere, figures=file)
    everything = dict.fromkeys(("run", "data", "samples", "images"), nowhere)
    fails_with("--out", "nothing", "folder", "a folder of samples", "folder", **everything, out=file / "new")


def test_runs_beside_are_called_by_name_or_path(images: Path, tmp_path: Path) -> None:
    run, *others = (save_vqvae(tmp_path / name) for name in ("run", "a", "b", "again/a", "again/run"))
    inputs = read_inputs(EvaluateOptions(run=run, data=images, beside=others), ALONE)
    assert list(inputs.beside) == [str(others[0]), "b", str(others[2]), str(others[3])]


def test_samples_are_compared_with_the_images_of_the_codes(
    images: Path, vqvae: Path, codes: Path, prior: Path, tmp_path: Path
) -> None:
    for name in ("a.png", "b.png"):
        Image.new("L", (32, 32)).save(tmp_path / name)
    for options in ({"run": vqvae, "data": images}, {"run": prior, "data": codes}):
        inputs = read_inputs(EvaluateOptions(**options, samples=tmp_path), ALONE)
        assert inputs.real_slices is not None
        assert [split.name for split in inputs.real_slices] == ["train", "validate"]
        assert all(split.manifest.fingerprint == load_manifest(images).fingerprint for split in inputs.real_slices)
    fails_with("found a dataset of codes", run=prior, data=codes, samples=tmp_path, images=codes)


def test_a_split_of_one_slice_has_no_distances(images: Path, vqvae: Path, tmp_path: Path) -> None:
    few, samples = tmp_path / "few", tmp_path / "samples"
    samples.mkdir()
    with ShardSetWriter(few, kind="images", image_size=(32, 32), channels=1, samples_per_shard=5) as writer:
        for split, numbers in (("train", (0, 1)), ("validate", (2,))):
            reader = ShardReader(images, load_manifest(images), split)
            for number in numbers:
                sample = reader.read(number)
                writer.write(split, sample["__key__"], sample["png"], sample["json"])
                (samples / f"{number}.png").write_bytes(sample["png"])
    fails_with(f"{few}, validate: found 1 slice; expected at least two", run=vqvae, data=few, samples=samples)


def test_a_missing_split_is_that_of_the_given_path(tmp_path: Path) -> None:
    data = write_image_set(tmp_path / "data", slices=replace(FEW, subjects={"train": range(4)}))
    shards = tmp_path / "slices.tar"
    shutil.copy(next((data / "train").glob("*.tar")), shards)
    expected = f"{shards}: found no split 'validate'; expected train: --split train"
    fails_with(expected, run=save_vqvae(tmp_path / "run"), data=shards)


def test_a_wrong_split_is_the_only_message(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = save_vqvae(tmp_path / "run")
    (run / "config.yaml").write_text(f"task: vqvae\ndata: {{path: {images}}}\n")
    fails_with("found no split 'val'; expected train or validate or test; did you mean validate?", run=run, split="val")
    fails_with("found no split 'other'; expected train or validate or test", run=run, split="other")
    assert capsys.readouterr().err == ""
