"""`vqdist.encode`: the codes are the model's, the bytes do not depend on the ranks, misfits are refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support import launch, save_prior, save_vqvae, write_codes, write_images

from vqdist import encode, evaluate, load_model
from vqdist.data.shards.codecs import decode_codes, decode_png
from vqdist.data.shards.manifest import load_manifest
from vqdist.data.shards.reader import ShardReader
from vqdist.foundation.command import run_command
from vqdist.inference.augmented_views import View
from vqdist.models.io import fingerprint


def read_tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_codes_are_the_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, run, out = write_images(tmp_path / "images"), save_vqvae(tmp_path / "run"), tmp_path / "codes"
    arguments = ["--run", run, "--data", images, "--out", out, "--device", "cpu", "--batch-size", 4]
    assert run_command(encode.main, [str(item) for item in arguments]) == 0
    assert json.loads(capsys.readouterr().out) == {"out": str(out), "samples": 24}

    source, codes = load_manifest(images), load_manifest(out)
    assert (codes.kind, codes.num_codes, codes.grid, codes.image_size) == ("codes", 16, (8, 8), (32, 32))
    assert codes.vqvae_fingerprint == fingerprint(run) == fingerprint(out / "vqvae")
    assert codes.conditions == source.conditions
    model = load_model(run)
    for split in source.splits:
        before, after = ShardReader(images, source, split), ShardReader(out, codes, split)
        assert [shard.samples for shard in before.shards] == [shard.samples for shard in after.shards]
        for index in range(len(before)):
            one, other = before.read(index), after.read(index)
            assert (one["__key__"], one["json"]) == (other["__key__"], other["json"])
            pixels = decode_png(one["png"], image_size=(32, 32), channels=1)
            expected = model.encode(torch.tensor(pixels)[None] / 255)[0].numpy()
            np.testing.assert_array_equal(decode_codes(other["npy"], grid=(8, 8), num_codes=16), expected)


def test_shards_that_somebody_else_made_go_the_whole_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    images, foreign, run = write_images(tmp_path / "images"), tmp_path / "foreign", save_vqvae(tmp_path / "run")
    for shard in images.rglob("*.tar"):
        (foreign / shard.parent.name).mkdir(parents=True, exist_ok=True)
        shard.rename(foreign / shard.parent.name / shard.name)
    codes = write_codes(tmp_path / "codes", run, foreign)
    assert {name: split.samples for name, split in load_manifest(codes).splits.items()} == {
        "train": 12, "validate": 3, "test": 9,
    }  # fmt: skip
    prior, samples = save_prior(tmp_path / "prior", codes), tmp_path / "samples"
    samples.mkdir()
    for name in ("a.png", "b.png"):
        Image.new("L", (32, 32), 90).save(samples / name)
    for options in (["--run", run, "--data", foreign], ["--run", prior, "--data", codes]):  # whose images are foreign
        arguments = [*options, "--samples", samples, "--figures", tmp_path / "figures", "--device", "cpu"]
        assert run_command(evaluate.main, [str(item) for item in arguments]) == 0
        report = json.loads(capsys.readouterr().out)
        assert (report["samples"], report["subjects"]) == (9, 3)
        assert report["realism"]["samples"] == 2
    assert not (foreign / "dataset.json").exists()


@pytest.mark.parametrize(
    ("chosen", "mirror"), [((), "rows"), (("--mirror", "columns"), "columns"), (("--mirror", "none"), "none")]
)
def test_views_are_the_codes_of_mirrored_and_moved_slices_of_train(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], chosen: tuple[str, ...], mirror: str
) -> None:
    images, run, out = write_images(tmp_path / "images"), save_vqvae(tmp_path / "run"), tmp_path / "codes"
    arguments = ["--run", run, "--data", images, "--out", out, "--views", 4, "--shift", 3, *chosen]
    assert run_command(encode.main, [str(item) for item in arguments]) == 0
    assert json.loads(capsys.readouterr().out)["samples"] == 4 * 12 + 3 + 9
    source, codes, model = load_manifest(images), load_manifest(out), load_model(run)
    before, after = ShardReader(images, source, "train"), ShardReader(out, codes, "train")
    assert [shard.samples for shard in after.shards] == [4 * shard.samples for shard in before.shards]
    found = {sample["__key__"]: sample for sample in map(after.read, range(len(after)))}
    moves = set()
    for index in range(len(before)):
        slice_of_train = before.read(index)
        pixels = decode_png(slice_of_train["png"], image_size=(32, 32), channels=1)
        for number in range(4):
            sample = found.pop(slice_of_train["__key__"] + (f"-view{number}" if number else ""))
            info = dict(sample["json"])
            view = info.pop("view", {"mirror": "none", "shift": [0, 0]})
            assert info == slice_of_train["json"]
            assert view["mirror"] == (mirror if number % 2 == 1 else "none")
            flipped = {"none": pixels, "rows": pixels[:, ::-1], "columns": pixels[:, :, ::-1]}[view["mirror"]]
            seen = torch.tensor(flipped.copy())
            down, right = view["shift"]
            padded = torch.nn.functional.pad(seen, (3, 3, 3, 3))[:, 3 - down : 35 - down, 3 - right : 35 - right]
            expected = model.encode(padded[None] / 255)[0].numpy()
            np.testing.assert_array_equal(decode_codes(sample["npy"], grid=(8, 8), num_codes=16), expected)
            moves.add((number > 0, down, right))
    assert not found
    assert {move[1:] for move in moves if not move[0]} == {(0, 0)}
    assert {abs(step) for move in moves for step in move[1:]} == {0, 1, 2, 3}
    assert {load_manifest(out).splits[name].samples for name in ("validate", "test")} == {3, 9}


def test_a_slice_of_nobody_is_the_subject_of_its_views() -> None:
    told = View(1, mirror="rows", down=2).describe("a", {"slice": 3})
    assert told == {"slice": 3, "subject": "a", "view": {"mirror": "rows", "shift": [2, 0]}}
    assert View().describe("a", {"slice": 3}) == {"slice": 3}


@pytest.mark.ranks
def test_two_ranks_write_the_same_bytes(tmp_path: Path) -> None:
    images, run = write_images(tmp_path / "images"), save_vqvae(tmp_path / "run")
    write_codes(tmp_path / "on-1", run, images)
    done = launch("vqdist.encode", "--run", run, "--data", images, "--out", tmp_path / "on-2", ranks=2)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"out": str(tmp_path / "on-2"), "samples": 24}
    assert read_tree(tmp_path / "on-1") == read_tree(tmp_path / "on-2")


def test_misfits_are_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, images = save_vqvae(tmp_path / "run"), write_images(tmp_path / "images")
    odd, codes = write_images(tmp_path / "odd", channels=3, size=30), write_codes(tmp_path / "codes", run, images)

    def fails_with(*expected: str, **changes: object) -> None:
        options = {"run": run, "data": odd, "out": tmp_path / "new", "device": "cpu"} | changes
        arguments = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
        assert run_command(encode.main, arguments) == 2
        told = capsys.readouterr().err
        assert all(part in told for part in expected), told
        assert sorted(path.name for path in tmp_path.iterdir()) == before

    before = sorted(path.name for path in tmp_path.iterdir())
    fails_with("channels: found 3; expected 1", "image size: found 30 x 30; expected multiples")
    fails_with("--views: found 3; expected at most 2, the slice and its mirror image", data=images, views=3)
    fails_with("--views: found 2; expected at most 1, the slice, or", data=images, views=2, mirror="none")
    fails_with("--shift: found 32; expected less than the sides", data=images, views=2, shift=32)
    fails_with("--shift: found 2 with one view of each slice; expected also --views", data=images, shift=2)
    fails_with("no such folder", data=tmp_path / "nowhere")
    fails_with("nowhere: found nothing", run=tmp_path / "nowhere")
    fails_with("not empty", out=odd, data=images)
    fails_with("found a data set of codes; expected one of images", data=codes)
    wrong = {"run": tmp_path / "nowhere", "data": tmp_path / "nothing", "out": odd, "batch-size": 0}
    told = ("--batch-size: found 0", "nowhere: found nothing", "nothing: found no such folder", "not empty")
    fails_with("4 problems", *told, **wrong)
    fails_with("model.safetensors, which is a file", out=run / "model/model.safetensors/new", data=images)


def test_damage_ends_the_command_and_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, run = write_images(tmp_path / "images"), save_vqvae(tmp_path / "run")
    shard = images / "test" / "shard-000001.tar"
    data = bytearray(shard.read_bytes())
    data[data.find(b"IDAT") + 20] ^= 1
    shard.write_bytes(bytes(data))
    arguments = ["--run", run, "--data", images, "--out", tmp_path / "codes", "--device", "cpu"]
    assert run_command(encode.main, [str(item) for item in arguments]) == 2
    assert "test/shard-000001.tar, sample s6_20" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "run"]
