"""`vqdist.sample`: a map hangs on the seed and its number alone, conditions come as asked or as in train."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from small_runs import launch, save_prior, save_vqvae, write_codes, write_images

from vqdist import load_model, sample
from vqdist.foundation.command import run_command
from vqdist.foundation.errors import UserError
from vqdist.inference.conditions import draw_conditions
from vqdist.inference.sampling import draw_noise

TABLE = [[0, 3, 10], [0, 7, 30], [1, 3, 60]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
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


def test_what_is_written(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "samples"
    told = run_sample(out, folder / "prior", num=18, slice=10, seed=3)
    written = capsys.readouterr()
    assert json.loads(written.out) == {"out": str(out), "num": 18}
    assert f"look at {out / 'grid.png'}\n" in written.err
    names = [f"sample-{index:05d}.png" for index in range(18)]
    assert sorted(path.name for path in out.iterdir()) == sorted([*names, "grid.png", "codes.npy", "samples.json"])
    assert told["samples"] == [{"file": name, "label": None, "slice": 10} for name in names]
    codes = np.load(out / "codes.npy")
    assert codes.shape == (18, 8, 8)
    decoded = load_model(folder / "prior" / "model" / "vqvae").decode(torch.from_numpy(codes))
    for name, picture in zip(names, decoded, strict=True):
        with Image.open(out / name) as found:
            np.testing.assert_allclose(np.asarray(found), picture[0].numpy() * 255, atol=0.51)
    run_sample(out, folder / "prior", num=2)
    assert sorted(path.name for path in out.iterdir()) == sorted([*names[:2], "grid.png", "codes.npy", "samples.json"])


def test_maps_are_draws_of_the_prior(folder: Path, tmp_path: Path) -> None:
    run_sample(tmp_path / "out", folder / "prior", num=3, seed=5, temperature=0.7, top_k=4, slice=10)
    model = load_model(folder / "prior")
    noise = draw_noise(range(3), 64, 16, 5)
    expected = model.sample(3, (8, 8), noise, 0.7, 4, slice=10)
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "codes.npy"), expected)


def test_a_map_depends_on_seed_and_number_alone(folder: Path, tmp_path: Path) -> None:
    runs = {"few": {"num": 3}, "many": {"num": 20}, "again": {"num": 20}, "other": {"num": 20, "seed": 1}}
    told = {name: run_sample(tmp_path / name, folder / "prior", **options) for name, options in runs.items()}
    maps = {name: np.load(tmp_path / name / "codes.npy") for name in runs}
    np.testing.assert_array_equal(maps["few"], maps["many"][:3])
    np.testing.assert_array_equal(maps["again"], maps["many"])
    assert (maps["other"] != maps["many"]).any(axis=(1, 2)).all()
    assert len(np.unique(maps["many"].reshape(20, -1), axis=0)) == 20
    assert told["few"]["samples"] == told["many"]["samples"][:3]
    assert {item["slice"] for item in told["many"]["samples"]} == {0, 10, 20}


@pytest.mark.ranks
def test_two_ranks_write_the_same_files(folder: Path, tmp_path: Path) -> None:
    run_sample(tmp_path / "on-1", folder / "prior", num=35)
    done = launch("vqdist.sample", "--prior", folder / "prior", "--num", 35, "--out", tmp_path / "on-2", ranks=2)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"out": str(tmp_path / "on-2"), "num": 35}
    alone, together = ({path.name: path.read_bytes() for path in out.iterdir()} for out in sorted(tmp_path.iterdir()))
    assert len(alone) == 38
    assert alone == together


def test_noise_is_standard_gumbel() -> None:
    noise = draw_noise(range(4), 50, 100, 0).numpy()
    assert stats.kstest(noise.ravel(), "gumbel_r").pvalue > 0.01
    np.testing.assert_array_equal(noise[2], draw_noise([2], 50, 100, 0)[0])


def test_conditions_are_drawn_as_in_train() -> None:
    drawn = draw_conditions(
        4000, 0, asked={"label": None, "slice": None}, condition="label+slice", table=TABLE, where="table"
    )
    pairs = [tuple(drawn.describe(index).values()) for index in range(4000)]
    for label, number, count in TABLE:
        assert pairs.count((label, number)) / 4000 == pytest.approx(count / 100, abs=0.03)


def test_a_given_condition_narrows_the_other() -> None:
    def draw(label: int | None, number: int | None) -> list[tuple[int | None, ...]]:
        asked = {"label": label, "slice": number}
        drawn = draw_conditions(50, 0, asked=asked, condition="label+slice", table=TABLE, where="table")
        return [tuple(drawn.describe(index).values()) for index in range(50)]

    assert set(draw(0, None)) == {(0, 3), (0, 7)}
    assert set(draw(None, 7)) == {(0, 7)}
    assert set(draw(1, 7)) == {(1, 7)}  # nobody in train, but all of it is asked
    with pytest.raises(UserError, match="label 2"):
        draw(2, None)


def test_misfits_are_refused_by_name(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def fails_with(expected: str, **options: object) -> None:
        given = {"prior": folder / "prior", "out": tmp_path / "out", "num": 2, "device": "cpu"} | options
        arguments = [str(part) for name, value in given.items() for part in (f"--{name.replace('_', '-')}", value)]
        assert run_command(sample.main, arguments) == 2
        assert expected in capsys.readouterr().err
        assert not (tmp_path / "out").exists()

    other = save_vqvae(tmp_path / "other", seed=1)
    fails_with("expected the one of the prior's codes", vqvae=other)
    fails_with("label: found a value; expected none", label=1, slice=10)
    fails_with("slice: found 99; expected a number in [0, 21)", slice=99)
    fails_with("kind: found vqvae; expected pixelcnn", prior=folder / "run")
    labelled = save_prior(tmp_path / "labelled", folder / "codes", condition="label")
    config = labelled / "model" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"class_names": ["daisies", "roses"]}))
    fails_with("label: found 7; expected a number in [0, 2): 0 daisies, 1 roses\n", prior=labelled, label=7)
    fails_with("temperature: found -1.0", temperature=-1)
    fails_with("top_k: found 17", top_k=17)
    fails_with("2 problems\n  - --num: found 0; expected at least 1\n  - --top-k: found -1", num=0, top_k=-1)
    fails_with("2 problems\n  - slice: found 99", top_k=17, slice=99)
    (tmp_path / "file").touch()
    fails_with("3 problems", prior=tmp_path / "no", vqvae=tmp_path / "none", out=tmp_path / "file" / "new")
    for vqvae in (folder / "run", None):
        run_sample(tmp_path / "ok", folder / "prior", num=1, vqvae="null" if vqvae is None else vqvae)
