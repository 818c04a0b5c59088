"""The command `vqdist encode`."""

import json
from pathlib import Path

import pytest
from PIL import Image
from support import run_on_ranks, save_prior, save_vqvae, write_codes, write_images

from vqdist import encode, evaluate
from vqdist.data.shards.manifest import load_manifest
from vqdist.foundation.command import run_command


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`images`, an untrained VQ-VAE `run` and its `codes`."""
    folder = tmp_path_factory.mktemp("encode")
    write_codes(folder / "codes", save_vqvae(folder / "run"), write_images(folder / "images"))
    return folder


def read_tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_command_prints_the_dataset_that_it_wrote(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "codes"
    words = ["--run", folder / "run", "--data", folder / "images", "--out", out, "--device", "cpu"]
    assert run_command(encode.main, [str(word) for word in words]) == 0
    written = capsys.readouterr()
    assert json.loads(written.out) == {"out": str(out), "samples": 24}
    next_line = f"next      vqdist train --config pixelcnn_oasis --data.path {out} --run.name codes-prior"
    assert written.err.splitlines()[-2:] == [f"wrote 24 code maps to {out}", next_line]
    assert read_tree(out) == read_tree(folder / "codes")


@pytest.mark.parametrize("option", ["run", "data", "out"])
def test_the_option_of_an_unusable_path_is_named(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    given = {"run": folder / "run", "data": folder / "images", "out": tmp_path / "codes"}
    given[option] = folder / "codes" if option == "out" else tmp_path / "nothing"
    words = [str(word) for name, value in given.items() for word in (f"--{name}", value)]
    assert run_command(encode.main, words) == 2
    assert f"error: --{option} {given[option]}: found " in capsys.readouterr().err


@pytest.mark.ranks
def test_two_ranks_write_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    words = ["--run", folder / "run", "--data", folder / "images", "--out", tmp_path / "codes"]
    outputs = run_on_ranks("encode", *words, ranks=2).outputs
    assert outputs == [json.dumps({"out": str(tmp_path / "codes"), "samples": 24}) + "\n", ""]
    assert read_tree(tmp_path / "codes") == read_tree(folder / "codes")


def test_third_party_shards_are_encoded_and_evaluated(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shards, run = tmp_path / "shards", folder / "run"
    for shard in (folder / "images").rglob("*.tar"):
        (shards / shard.parent.name).mkdir(parents=True, exist_ok=True)
        (shards / shard.parent.name / shard.name).write_bytes(shard.read_bytes())
    codes = write_codes(tmp_path / "codes", run, shards)
    assert {name: split.samples for name, split in load_manifest(codes).splits.items()} == {
        "train": 12, "validate": 3, "test": 9,
    }  # fmt: skip
    prior, samples = save_prior(tmp_path / "prior", codes), tmp_path / "samples"
    samples.mkdir()
    for name in ("a.png", "b.png"):
        Image.new("L", (32, 32), 90).save(samples / name)
    for options in (["--run", run, "--data", shards], ["--run", prior, "--data", codes]):  # codes of these shards
        arguments = [*options, "--split", "test", "--samples", samples, "--figures", "null", "--device", "cpu"]
        assert run_command(evaluate.main, [str(item) for item in arguments]) == 0
        report = json.loads(capsys.readouterr().out)
        assert (report["samples"], report["subjects"]) == (9, 3)
        assert report["realism"]["samples"] == 2
    assert not (shards / "dataset.json").exists()


def test_all_problems_are_reported_together(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def fails_with(*expected: str, **changes: object) -> None:
        options = {"run": folder / "run", "data": folder / "images", "out": tmp_path / "new"} | changes
        words = [str(word) for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)]
        assert run_command(encode.main, [*words, "--device", "cpu"]) == 2
        message = capsys.readouterr().err
        assert all(part in message for part in expected), message
        assert not any(tmp_path.iterdir())

    fails_with("--views: found 3; expected at most 2, the slice and its mirror image", views=3)
    fails_with("--views: found 2; expected at most 1, the slice, or", views=2, mirror="none")
    fails_with("--shift: found 2 with one view of each slice; expected also --views", shift=2)
    fails_with("not empty", out=folder / "images")
    fails_with("model.safetensors, which is a file", out=folder / "run/model/model.safetensors/new")
    fails_with(
        "4 problems",
        *("--batch-size: found 0", "nowhere: found nothing", "nothing: found no such folder", "not empty"),
        **{"run": tmp_path / "nowhere", "data": tmp_path / "nothing", "out": folder / "images", "batch_size": 0},
    )
