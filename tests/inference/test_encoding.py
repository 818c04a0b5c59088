"""Encoding from Python: the codes are those of the model, for every view, and nothing is left after an error."""

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import ALONE, VOLUMES, save_vqvae, write_codes, write_image_set, write_images

from vqdist import load_model, shard
from vqdist.config.attributes import Attribute
from vqdist.config.augmentation import Mirror
from vqdist.config.command_options import EncodeOptions
from vqdist.config.condition_key import list_names
from vqdist.config.loading import load_config
from vqdist.data.previous_slices import find_previous_samples
from vqdist.data.shards.codecs import decode_codes, decode_png
from vqdist.data.shards.manifest import Manifest, load_manifest
from vqdist.data.shards.reader import ShardReader
from vqdist.data.sources.slice_affines import centred_affine
from vqdist.foundation.command import run_command
from vqdist.foundation.errors import ConfigError, UserError
from vqdist.inference.encoding import choose_condition, describe_attributes, encode, prepare_encoding, propose_training
from vqdist.models.io import fingerprint


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_vqvae(tmp_path_factory.mktemp("encoding") / "run")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("encoding") / "images")


def read_all(data: Path, split: str) -> list[dict[str, Any]]:
    reader = ShardReader(data, load_manifest(data), split)
    return [reader.read(index) for index in range(len(reader))]


def pixels_of(sample: dict[str, Any]) -> np.ndarray:
    return decode_png(sample["png"], image_size=(32, 32), channels=1)


def codes_of(sample: dict[str, Any]) -> np.ndarray:
    return decode_codes(sample["npy"], grid=(8, 8), num_codes=16)


def test_codes_are_those_of_the_model(run: Path, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "codes"
    assert encode(EncodeOptions(run=run, data=images, out=out, batch_size=4), ALONE) == 24
    source, codes = load_manifest(images), load_manifest(out)
    assert (codes.kind, codes.num_codes, codes.grid, codes.image_size) == ("codes", 16, (8, 8), (32, 32))
    assert codes.vqvae_fingerprint == fingerprint(run) == fingerprint(out / "vqvae")
    assert codes.conditions == source.conditions
    assert codes.source["images"] == str(images)
    model = load_model(run)
    for split, info in source.splits.items():
        assert [shard.samples for shard in info.shards] == [shard.samples for shard in codes.splits[split].shards]
        for before, after in zip(read_all(images, split), read_all(out, split), strict=True):
            assert (before["__key__"], before["json"]) == (after["__key__"], after["json"])
            expected = model.encode(torch.tensor(pixels_of(before))[None] / 255)[0].numpy()
            np.testing.assert_array_equal(codes_of(after), expected)


@pytest.mark.parametrize("mirror", ["up-down", "left-right", "none"])
def test_views_of_train_are_the_codes_of_mirrored_and_shifted_slices(
    run: Path, images: Path, tmp_path: Path, mirror: Mirror
) -> None:
    options = EncodeOptions(run=run, data=images, out=tmp_path / "codes", views=4, shift=3, mirror=mirror)
    assert encode(options, ALONE) == 4 * 12 + 3 + 9
    source, codes, model = load_manifest(images), load_manifest(options.out), load_model(run)
    sizes = [[shard.samples for shard in manifest.splits["train"].shards] for manifest in (source, codes)]
    assert sizes[1] == [4 * size for size in sizes[0]]
    found = {sample["__key__"]: sample for sample in read_all(options.out, "train")}
    shifts = set()
    for train_slice in read_all(images, "train"):
        pixels = pixels_of(train_slice)
        for number in range(4):
            sample = found.pop(train_slice["__key__"] + (f"-view{number}" if number else ""))
            info = dict(sample["json"])
            view = info.pop("view", {"mirror": "none", "shift": [0, 0]})
            assert info == train_slice["json"]
            assert view["mirror"] == (mirror if number % 2 == 1 else "none")
            flipped = {"none": pixels, "up-down": pixels[:, ::-1], "left-right": pixels[:, :, ::-1]}[view["mirror"]]
            down, right = view["shift"]
            padded = torch.nn.functional.pad(torch.tensor(flipped.copy()), (3, 3, 3, 3))
            shifted = padded[:, 3 - down : 35 - down, 3 - right : 35 - right]
            np.testing.assert_array_equal(codes_of(sample), model.encode(shifted[None] / 255)[0].numpy())
            shifts.add((number > 0, down, right))
    assert not found
    assert {shift[1:] for shift in shifts if not shift[0]} == {(0, 0)}
    assert {abs(step) for shift in shifts for step in shift[1:]} == {0, 1, 2, 3}
    assert {codes.splits[name].samples for name in ("validate", "test")} == {3, 9}


@pytest.mark.parametrize(("layout", "mirror"), [("nifti", "up-down"), ("imagefolder", "none"), (None, "none")])
def test_only_brain_slices_are_mirrored_unless_asked(
    run: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], layout: str | None, mirror: str
) -> None:
    data = tmp_path / "images"
    shutil.copytree(images, data)
    manifest = json.loads((data / "dataset.json").read_text())
    (data / "dataset.json").write_text(json.dumps(manifest | {"source": {"layout": layout} if layout else {}}))
    options = EncodeOptions(run=run, data=data, out=tmp_path / "codes", views=2, shift=1)
    encode(options, ALONE)
    views = [sample["json"].get("view", {}).get("mirror") for sample in read_all(options.out, "train")]
    assert {view for view in views if view is not None} == {mirror}
    found = "no view is mirrored" if mirror == "none" else "every second view is mirrored up-down"
    assert f"{found}, as for all images of" in capsys.readouterr().err
    unshifted = EncodeOptions(run=run, data=data, out=tmp_path / "again", views=2)
    if mirror == "none":
        with pytest.raises(ConfigError, match=r"--views: found 2; expected at most 1, .* or --mirror up-down or left-"):
            encode(unshifted, ALONE)
    else:
        assert encode(unshifted, ALONE) == 2 * 12 + 3 + 9


def test_the_names_of_earlier_versions_are_read() -> None:
    given = {"run": "run", "data": "images", "out": "codes"}
    assert EncodeOptions(**given, mirror="rows").mirror == "up-down"
    assert EncodeOptions(**given, mirror="columns").mirror == "left-right"


def test_misfits_are_named(run: Path, images: Path, tmp_path: Path) -> None:
    odd, codes = write_images(tmp_path / "odd", channels=3, size=30), write_codes(tmp_path / "codes", run, images)

    def fails_with(*expected: str, data: Path = odd, **options: int) -> None:
        before = sorted(tmp_path.iterdir())
        with pytest.raises(ConfigError) as error:
            encode(EncodeOptions(run=run, data=data, out=tmp_path / "new", **options), ALONE)
        assert len(error.value.problems) == len(expected)
        assert all(part in str(error.value) for part in expected), error.value
        assert sorted(tmp_path.iterdir()) == before

    fails_with("channels: found 3; expected 1", "image size: found 30 x 30; expected multiples")
    fails_with("--shift: found 32; expected less than the sides", data=images, views=2, shift=32)
    fails_with("found a dataset of codes; expected a dataset of images", data=codes)
    fails_with("--shift: found 2 with one view", "nowhere: found no such folder", data=tmp_path / "nowhere", shift=2)


def test_damage_ends_the_command_and_leaves_nothing(run: Path, tmp_path: Path) -> None:
    images = write_images(tmp_path / "images")
    shard = images / "test" / "shard-000001.tar"
    data = bytearray(shard.read_bytes())
    data[data.find(b"IDAT") + 20] ^= 1
    shard.write_bytes(bytes(data))
    with pytest.raises(UserError, match=r"test/shard-000001\.tar, sample s6_20"):
        encode(EncodeOptions(run=run, data=images, out=tmp_path / "codes"), ALONE)
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


def test_the_views_of_a_volume_stay_neighbours(tmp_path: Path) -> None:
    affine = centred_affine(2.0, 32)
    images = write_image_set(tmp_path / "images", slices=VOLUMES, affine=affine)
    run, out = save_vqvae(tmp_path / "run"), tmp_path / "codes"
    encode(EncodeOptions(run=run, data=images, out=out, views=3, shift=2, mirror="up-down"), ALONE)
    manifest = load_manifest(out)
    assert manifest.affine == affine
    reader = ShardReader(out, manifest, "train")
    pairs = [(index, before) for index, before in enumerate(find_previous_samples(reader).tolist()) if before >= 0]
    assert len(pairs) == 5 * 3 * 3  # volumes, pairs of neighbours, views
    for index, before in pairs:
        info, other = reader.read_info(index), reader.read_info(before)
        assert (info["subject"], info["slice"]) == (other["subject"], other["slice"] + 1)
        assert info.get("view") == other.get("view")
    shifts = {
        tuple(reader.read_info(index)["view"]["shift"]) for index, _ in pairs if "view" in reader.read_info(index)
    }
    assert len(shifts) > 3  # subjects and views differ


def test_slices_of_another_size_than_in_training(
    run: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = shutil.copytree(run, tmp_path / "run")
    card = other / "model" / "config.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | {"image_size": [64, 64]}))
    encode(EncodeOptions(run=other, data=images, out=tmp_path / "codes"), ALONE)
    said = capsys.readouterr().err
    assert f"WARNING: {images} has slices of 32 x 32, {other} was trained on slices of 64 x 64; its codes" in said


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ([(0, 3, 2), (None, 4, 1)], "slice"),
        ([(0, None, 2), (1, 4, 1)], "label"),
        ([(0, None, 2)], "none"),  # one class
        ([(0, None, 2), (None, None, 1), (1, None, 1)], "none"),
        ([], "none"),
    ],
)
def test_the_proposed_condition_is_known_for_all_training_samples(
    conditions: list[tuple[int | None, int | None, int]], expected: str
) -> None:
    manifest = Manifest("codes", (32, 32), 1, {}, conditions=tuple(conditions))
    assert choose_condition(manifest) == expected


@pytest.mark.parametrize(
    ("conditions", "names"),
    [
        ([(None, 1, 8), (None, 2, 8)], "slice, age, sex"),
        ([(0, None, 8), (1, None, 8)], "label, age, sex"),
        ([(None, None, 8)], "age, sex"),
    ],
)
def test_the_flags_of_the_attributes_are_named(
    conditions: list[tuple[int | None, int | None, int]], names: str
) -> None:
    attributes = {
        "age": Attribute(kind="number", low=20, high=80),
        "sex": Attribute(kind="category", values=("F", "M")),
    }
    manifest = Manifest("codes", (32, 32), 1, {}, conditions=tuple(conditions), attributes=attributes)
    line = describe_attributes(manifest)
    assert line is not None
    words = shlex.split(line.removeprefix("attributes age, sex: add ").removesuffix(" to use them"))
    assert words == ["--model.condition", f"[{names}]", "--model.condition_dropout", "0.1"]
    config, problems = load_config("pixelcnn_oasis", [("model.condition", words[1])])
    assert config is not None, problems
    assert list_names(config.model.condition) == tuple(names.split(", "))
    assert describe_attributes(Manifest("codes", (32, 32), 1, {}, conditions=tuple(conditions))) is None


def test_the_next_command_names_a_condition_that_the_codes_have(run: Path, images: Path, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    for name, number in (("a/1.png", 0), ("a/2.png", 1), ("b/3.png", 2), ("b/4.png", 3)):
        (pictures / name).parent.mkdir(parents=True, exist_ok=True)
        (pictures / name).write_bytes(read_all(images, "train")[number]["png"])
    words = [str(pictures), str(tmp_path / "images"), "--image-size", "32", "--split", "1", "0", "0"]
    assert run_command(shard.main, words) == 0
    options = EncodeOptions(run=run, data=tmp_path / "images", out=tmp_path / "codes of 4")
    job = prepare_encoding(options, ALONE)
    job.run(ALONE)
    command = propose_training(job)
    assert command.endswith(f"--data.path '{options.out}' --run.name 'codes of 4-prior' --model.condition label")
    given = shlex.split(command.removeprefix("vqdist train "))
    config, problems = load_config(
        given[1], [(flag[2:], text) for flag, text in zip(given[2::2], given[3::2], strict=True)]
    )
    assert config is not None, problems
    assert config.model.condition == "label"
    default, _ = load_config("pixelcnn_oasis", [])
    assert default is not None
    assert default.model.condition == "slice"
