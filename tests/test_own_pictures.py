"""From a folder of colour pictures to new pictures of one class, by the commands of the README."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from support import QUIET, tiny_flags

from vqdist import load_model
from vqdist.data.shards.manifest import load_manifest
from vqdist.data.shards.reader import ShardReader
from vqdist.data.sources.pictures import load_picture
from vqdist.foundation.command import run_command
from vqdist.inference.reconstruction import find_pictures

SIZE = 32
COLOURS = {"daisies": (250, 240, 120), "roses": (210, 30, 60)}


def draw_flowers(folder: Path) -> Path:
    """Write 20 pictures of each of two classes, in several sizes and formats."""
    rng = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for number in range(20):
            H, W = rng.integers(30, 60, 2)
            y, x = np.mgrid[:H, :W]
            distance = np.hypot((y - H / 2) / H, (x - W / 2) / W)
            petals = np.clip(1.5 - 4 * distance, 0, 1)[..., None] * colour
            pixels = np.clip(petals + rng.normal(20, 5, (H, W, 1)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"flower {number}.{'jpg' if number % 2 else 'png'}")
    return folder


def call(capsys: pytest.CaptureFixture[str], command: str, *words: object) -> dict[str, Any]:
    """Run a command and return the JSON object on stdout, {} for train, which has none."""
    code = run_command(import_module(f"vqdist.{command}").main, [str(word) for word in words])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return json.loads(captured.out or "{}")


def train(capsys: pytest.CaptureFixture[str], task: str, data: Path, run: Path, *flags: object) -> None:
    where = ("--data.path", data, "--run.dir", run.parent, "--run.name", run.name)
    brief = ("--train.max_steps", 5, "--train.log_every", 5, "--train.eval_every", 5, "--train.preview_every", 5)
    call(capsys, "train", *tiny_flags(task), *QUIET, *where, *brief, *flags)


def mean_colours(path: Path) -> np.ndarray:
    """Return the mean of each channel of an RGB picture."""
    with Image.open(path) as picture:
        assert picture.mode == "RGB", f"{path.name} is {picture.mode}"
        return np.asarray(picture).reshape(-1, 3).mean(axis=0)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_flowers(tmp_path_factory.mktemp("pictures") / "flowers")


def test_from_pictures_to_new_ones_of_a_class(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, codes, vqvae, prior = (tmp_path / name for name in ("images", "codes", "vqvae", "prior"))
    written = call(capsys, "shard", pictures, images, "--image-size", SIZE, "--samples-per-shard", 8)
    assert sum(split["samples"] for split in written["splits"].values()) == 40
    manifest = load_manifest(images)
    assert (manifest.channels, manifest.class_names, manifest.num_labels) == (3, ("daisies", "roses"), 2)

    losses = ("--model.l1_weight", 0.5, "--model.ssim_weight", 0.5)
    train(capsys, "vqvae", images, vqvae, *losses, "--data.mirror", "auto", "--data.crop", "auto")
    data = yaml.safe_load((vqvae / "config.yaml").read_text())["data"]
    assert (data["mirror"], data["crop"]) == ("none", None), "pictures of any content are not turned upside down"
    device = ("--device", "cpu")
    report = call(capsys, "evaluate", "--run", vqvae, *device)
    assert 0 < report["metrics"]["ssim"]["mean"] < 1
    assert report["figures"]
    assert all(Path(figure).exists() for figure in report["figures"])
    report = call(capsys, "evaluate", "--run", vqvae, "--pictures", pictures / "roses", *device)
    assert report["pictures"] == 20
    mean_colours(Path(report["overview"]))
    loaded = [load_picture(path, image_size=SIZE, channels=3) for path in find_pictures(pictures)]
    originals = torch.tensor(np.stack(loaded)) / 255
    recon = load_model(vqvae).reconstruct(originals)
    assert recon.shape == originals.shape == (40, 3, SIZE, SIZE)
    assert 0 <= recon.min() <= recon.max() <= 1

    views = ("--views", 2, "--shift", 2)
    call(capsys, "encode", "--run", vqvae, "--data", images, "--out", codes, *views, *device)
    assert load_manifest(codes).source["mirror"] == "none"
    train(capsys, "pixelcnn", codes, prior, "--model.condition", "label", "--model.symmetry", "auto")
    assert yaml.safe_load((prior / "config.yaml").read_text())["model"]["symmetry"] == "none"
    samples = tmp_path / "samples"
    call(capsys, "sample", "--prior", prior, "--num", 3, "--label", "roses", "--out", samples, *device)
    drawn = json.loads((samples / "samples.json").read_text())["samples"]
    assert [(sample["label"], sample["slice"]) for sample in drawn] == [(1, None)] * 3
    for picture in [samples / drawn[0]["file"], samples / "grid.png", *sorted(prior.glob("previews/*.png"))]:
        mean_colours(picture)
    report = call(capsys, "evaluate", "--run", prior, "--samples", samples, *device)
    assert report["metrics"]["uniform_bits_per_code"]["mean"] == 4
    assert report["realism"]["samples"] == 3


def test_shards_keep_colours_and_labels(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = tmp_path / "images"
    call(capsys, "shard", pictures, images, "--image-size", SIZE)
    reader = ShardReader(images, load_manifest(images), "train")
    for index in range(len(reader)):
        sample = reader.read(index)
        (tmp_path / "one.png").write_bytes(sample["png"])
        red, green, _ = mean_colours(tmp_path / "one.png")
        assert sample["json"]["label"] == int(red > 2 * green), sample["__key__"]
