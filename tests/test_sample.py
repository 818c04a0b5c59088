"""The command `vqdist sample`."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support import VOLUMES, run_on_ranks, save_prior, save_vqvae, write_codes, write_image_set, write_images

from vqdist import load_model, sample
from vqdist.foundation.command import run_command


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained VQ-VAE `run`, its `codes`, and an untrained `prior` of the codes."""
    folder = tmp_path_factory.mktemp("sample")
    run = save_vqvae(folder / "run")
    codes = write_codes(folder / "codes", run, write_images(folder / "images"))
    save_prior(folder / "prior", codes, condition="slice")
    return folder


def run_sample(out: Path, prior: Path, **options: object) -> dict[str, Any]:
    given = {"prior": prior, "out": out, "device": "cpu"} | options
    arguments = [str(part) for name, value in given.items() for part in (f"--{name.replace('_', '-')}", value)]
    assert run_command(sample.main, arguments) == 0
    return json.loads((out / "samples.json").read_text())


def test_files_of_the_samples(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "samples"
    description = run_sample(out, folder / "prior", num=18, slice=10, seed=3)
    written = capsys.readouterr()
    assert json.loads(written.out) == {"out": str(out), "num": 18}
    assert f"look at {out / 'grid.png'}\n" in written.err
    names = [f"sample-{index:05d}.png" for index in range(18)]
    assert sorted(path.name for path in out.iterdir()) == sorted([*names, "grid.png", "codes.npy", "samples.json"])
    assert description["samples"] == [{"file": name, "label": None, "slice": 10} for name in names]
    codes = np.load(out / "codes.npy")
    assert codes.shape == (18, 8, 8)
    decoded = load_model(folder / "prior" / "model" / "vqvae").decode(torch.from_numpy(codes))
    for name, picture in zip(names, decoded, strict=True):
        with Image.open(out / name) as found:
            np.testing.assert_allclose(np.asarray(found), picture[0].numpy() * 255, atol=0.51)
    assert "wrote 18 slices; look at" in written.err


def test_an_older_folder_is_replaced_only_on_request(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "samples"
    out.mkdir()  # an empty folder may be used
    run_sample(out, folder / "prior", num=3, slice=10)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    words = ["--prior", folder / "prior", "--out", out, "--num", 2, "--slice", 0, "--device", "cpu"]
    assert run_command(sample.main, [str(word) for word in words]) == 2
    message = f"--out {out}: found a folder that is not empty; expected an empty or new one, or --overwrite"
    assert message in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    run_sample(out, folder / "prior", num=2, slice=0, overwrite="true")
    expected = ["sample-00000.png", "sample-00001.png", "grid.png", "codes.npy", "samples.json"]
    assert sorted(path.name for path in out.iterdir()) == sorted(expected)
    assert [path.name for path in tmp_path.iterdir()] == ["samples"], "no temporary folder is left"


@pytest.mark.ranks
def test_two_ranks_write_the_same_files(folder: Path, tmp_path: Path) -> None:
    run_sample(tmp_path / "on-1", folder / "prior", num=35)
    words = ["--prior", folder / "prior", "--num", 35, "--out", tmp_path / "on-2"]
    outputs = run_on_ranks("sample", *words, ranks=2).outputs
    assert outputs == [json.dumps({"out": str(tmp_path / "on-2"), "num": 35}) + "\n", ""]
    alone, together = ({path.name: path.read_bytes() for path in out.iterdir()} for out in sorted(tmp_path.iterdir()))
    assert len(alone) == 38
    assert alone == together


def test_all_problems_are_reported_together(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def fails_with(*expected: str, **options: object) -> None:
        given = {"prior": folder / "prior", "out": tmp_path / "out", "num": 2, "device": "cpu"} | options
        arguments = [str(part) for name, value in given.items() for part in (f"--{name.replace('_', '-')}", value)]
        assert run_command(sample.main, arguments) == 2
        message = capsys.readouterr().err
        assert all(part in message for part in expected), message
        assert not (tmp_path / "out").exists()

    fails_with("kind: found vqvae; expected pixelcnn: pass the run of the PixelCNN", prior=folder / "run")
    fails_with("temperature: found -1.0", temperature=-1)
    fails_with("2 problems\n  - --num: found 0; expected at least 1\n  - --top-k: found -1", num=0, top_k=-1)
    fails_with("2 problems\n  - slice: found 99", "top_k: found 17", top_k=17, slice=99)
    fails_with("slice: found 3, a number without a training sample; expected 0, 10, 20", slice=3)
    (tmp_path / "file").touch()
    fails_with("3 problems", prior=tmp_path / "no", vqvae=tmp_path / "none", out=tmp_path / "file" / "new")
    fails_with("3 problems", "--num", "top_k", "--out", num=0, top_k=99, out=tmp_path / "file" / "new")


@pytest.mark.ranks
def test_volumes_on_two_ranks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = write_image_set(tmp_path / "images", slices=VOLUMES)
    codes = write_codes(tmp_path / "codes", save_vqvae(tmp_path / "run"), images)
    prior = save_prior(tmp_path / "prior", codes, condition="slice", context="previous")
    words = ["--prior", prior, "--volumes", 17, "--seed", 2]
    alone = [str(word) for word in (*words, "--out", tmp_path / "alone", "--device", "cpu")]
    assert run_command(sample.main, alone) == 0
    written = capsys.readouterr()
    assert json.loads(written.out) == {"out": str(tmp_path / "alone"), "volumes": 17}
    assert "wrote 17 volumes; look at" in written.err
    run_on_ranks("sample", *words, "--out", tmp_path / "two", ranks=2)
    names = sorted(path.name for path in (tmp_path / "alone").iterdir())
    assert len(names) == 2 * 17 + 2
    assert names == sorted(path.name for path in (tmp_path / "two").iterdir())
    for name in names:
        if name != "samples.json":
            assert (tmp_path / "alone" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name
