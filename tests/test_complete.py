"""The command `vqdist complete`."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support import ALONE, run_on_ranks, save_prior, save_vqvae, write_codes, write_images
from support.lesions import draw_brain, draw_disc
from support.volumes import save_oriented

from vqdist import VQVAE, complete, load_model
from vqdist.config.slice_options import CompleteOptions
from vqdist.foundation.command import run_command
from vqdist.inference import completion
from vqdist.inference.completion import complete as complete_slices
from vqdist.inference.hole_filling import paste_without_seam
from vqdist.inference.sampling import draw_noise


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `prior` conditioned on the slice number, its `images`, two `pictures` and their `masks`."""
    folder = tmp_path_factory.mktemp("complete")
    codes = write_codes(folder / "codes", save_vqvae(folder / "run"), write_images(folder / "images"))
    save_prior(folder / "prior", codes, condition="slice")
    for name in ("pictures", "masks"):
        (folder / name).mkdir()
    for number in (3, 12):
        Image.fromarray(draw_brain(1, number)).save(folder / "pictures" / f"case_1_slice_{number}.png")
        mask = draw_disc(32, (14, 10 + number), 4)
        Image.fromarray(mask).save(folder / "masks" / f"case_1_slice_{number}_mask.png")
    return folder


def words(options: dict[str, object]) -> list[str]:
    return [str(part) for name, value in options.items() for part in (f"--{name.replace('_', '-')}", value)]


def run_complete(folder: Path, out: Path, **options: object) -> dict[str, Any]:
    given = {"prior": folder / "prior", "pictures": folder / "pictures", "mask": folder / "masks", "out": out}
    assert run_command(complete.main, words(given | {"device": "cpu"} | options)) == 0
    return json.loads((out / "completions.json").read_text())


def read(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_files_of_the_completions(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "out"
    described = run_complete(folder, out, num=3, seed=2)
    written = capsys.readouterr()
    assert json.loads(written.out) == {"out": str(out), "slices": 2, "num": 3}
    assert f"look at {out / 'grid.png'}\n" in written.err
    keys = ["case_1_slice_12", "case_1_slice_3"]
    names = [f"{key}-{place}.png" for key in keys for place in range(3)] + [f"{key}-codes.npy" for key in keys]
    assert sorted(path.name for path in out.iterdir()) == sorted([*names, "grid.png", "completions.json"])
    prior = load_model(folder / "prior")
    for key, slice_number, found in zip(keys, (12, 3), described["slices"], strict=True):
        assert (found["key"], found["slice"], found["label"]) == (key, slice_number, None)
        codes = torch.from_numpy(np.load(out / f"{key}-codes.npy"))
        assert codes.shape == (3, 8, 8)
        bits = [item["bits"] for item in found["completions"]]
        assert bits == sorted(bits)
        np.testing.assert_allclose(bits, prior.bits(codes, slice=slice_number).sum(dim=(1, 2)), rtol=1e-4)
        picture, mask = read(folder / "pictures" / f"{key}.png"), read(folder / "masks" / f"{key}_mask.png") > 0
        filled = np.stack([read(out / item["file"]) for item in found["completions"]])
        assert (filled[:, ~mask] == picture[~mask]).all()
        assert (filled[:, mask] != picture[mask]).any(axis=1).all()
        outside = ~mask.reshape(8, 4, 8, 4).any(axis=(1, 3))
        assert (codes[:, outside] == codes[:1, outside]).all()  # only the codes of the hole are sampled
    run_complete(folder, out, num=1, pictures=folder / "pictures" / "case_1_slice_3.png", overwrite="true")
    expected = ["case_1_slice_3-0.png", "case_1_slice_3-codes.npy", "grid.png", "completions.json"]
    assert sorted(path.name for path in out.iterdir()) == sorted(expected)


def test_the_kept_completions_are_the_likeliest_of_the_draws(folder: Path, tmp_path: Path) -> None:
    few = run_complete(folder, tmp_path / "few", num=2, draws=1)
    many = run_complete(folder, tmp_path / "many", num=2, draws=8)
    bits = [[item["bits"] for item in found["slices"][0]["completions"]] for found in (few, many)]
    assert all(a > b for a, b in zip(*bits, strict=True))


def test_each_completion_has_particles_of_its_own(folder: Path, tmp_path: Path) -> None:
    given = {"num": 3, "draws": 1, "particles": 40, "seed": 4}  # more than one pass of the sampler
    found = run_complete(folder, tmp_path / "out", **given)
    assert found["particles"] == 40
    codes = torch.from_numpy(np.load(tmp_path / "out" / "case_1_slice_3-codes.npy"))
    mask = read(folder / "masks" / "case_1_slice_3_mask.png") > 0
    keep = torch.from_numpy(~mask.reshape(8, 4, 8, 4).any(axis=(1, 3))).expand(3, 8, 8)
    prior = load_model(folder / "prior")
    noise = draw_noise(range(3 * 40), 64, prior.num_codes, 4)
    drawn = prior.complete(codes, keep, noise, slice=3, particles=40)
    assert torch.equal(codes, drawn[prior.bits(drawn, slice=3).double().sum(dim=(1, 2)).argsort()])


@pytest.mark.parametrize(("average", "particles"), [(1, 1), (3, 1), (2, 5)])
def test_a_completion_is_the_mean_of_its_draws(folder: Path, tmp_path: Path, average: int, particles: int) -> None:
    given = {"num": 2, "draws": 6, "average": average, "particles": particles, "seed": 3, "temperature": 0.7}
    found = run_complete(folder, tmp_path / "out", **given)
    assert found["average"] == average
    key, total = "case_1_slice_3", 2 * 6 * average
    picture, mask = (read(folder / name) for name in (f"pictures/{key}.png", f"masks/{key}_mask.png"))
    written = torch.from_numpy(np.load(tmp_path / "out" / f"{key}-codes.npy"))
    assert written.shape == ((2, 8, 8) if average == 1 else (2, average, 8, 8))
    prior, vqvae = load_model(folder / "prior"), load_model(folder / "prior" / "model" / "vqvae")
    keep = torch.from_numpy(mask == 0).view(8, 4, 8, 4).all(dim=3).all(dim=1).expand(total, 8, 8)
    noise = draw_noise(range(total * particles), 64, prior.num_codes, 3)
    known = written.reshape(-1, 8, 8)[:1].expand(total, 8, 8)
    draws = prior.complete(known, keep, noise, temperature=0.7, slice=3, particles=particles)
    bits = prior.bits(draws, slice=3).double().sum(dim=(1, 2)).view(12, average).mean(dim=1)
    best = bits.argsort()[:2]
    assert torch.equal(written, draws.view(12, average, 8, 8)[best].view(written.shape))
    described = next(about["completions"] for about in found["slices"] if about["key"] == key)
    np.testing.assert_allclose([item["bits"] for item in described], bits[best], rtol=1e-6)
    decoded = vqvae.decode(draws).view(12, average, 1, 32, 32)[best]
    hole = torch.from_numpy(mask > 0)
    expected = paste_without_seam(torch.tensor(picture)[None, None].float() / 255, decoded.mean(dim=1), hole)
    filled = np.stack([read(tmp_path / "out" / item["file"]) for item in described])
    np.testing.assert_allclose(filled, expected[:, 0] * 255, atol=0.51)  # rounded to whole grey values
    assert (filled[:, mask == 0] == picture[mask == 0]).all()
    grid = read(tmp_path / "out" / "grid.png")  # two rows of images of 32 x 32 with gaps of 2
    np.testing.assert_array_equal(grid[36:68, 36:68], filled[0])
    if average > 1:
        assert ((decoded - decoded.mean(dim=1, keepdim=True)).abs().amax(dim=(1, 2, 3, 4)) > 0.01).all()


def test_an_average_draws_and_decodes_few_maps_at_a_time(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    decoded: list[int] = []
    decode = VQVAE.decode

    def draw(maps: range, **keys: int) -> torch.Tensor:
        drawn.append(len(maps))
        return draw_noise(maps, **keys)

    def record(self: VQVAE, codes: torch.Tensor) -> torch.Tensor:
        decoded.append(len(codes))
        return decode(self, codes)

    monkeypatch.setattr(completion, "draw_noise", draw)
    monkeypatch.setattr(VQVAE, "decode", record)
    run_complete(folder, tmp_path / "one-pass", num=2, draws=2, average=3)
    assert drawn == [12]  # for both slices
    assert decoded == [2] * 3 * 2
    drawn.clear()
    run_complete(folder, tmp_path / "passes", num=2, draws=1, average=35)
    assert drawn == [64, 6, 64, 6]


def test_a_message_names_the_mean(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_complete(folder, tmp_path / "out", num=1, draws=1, average=2)
    assert "grid.png; each completion is the mean of 2 draws\n" in capsys.readouterr().err


def test_the_pixels_under_the_mask_do_not_matter(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "marked").mkdir()
    for path in (folder / "pictures").iterdir():
        mask = read(folder / "masks" / f"{path.stem}_mask.png") > 0
        Image.fromarray(np.where(mask, np.uint8(255), read(path))).save(tmp_path / "marked" / path.name)
    run_complete(folder, tmp_path / "a", num=1)
    run_complete(folder, tmp_path / "b", num=1, pictures=tmp_path / "marked")
    for path in (tmp_path / "a").glob("case*.png"):
        np.testing.assert_array_equal(read(path), read(tmp_path / "b" / path.name))


def test_a_picture_of_another_size_keeps_it(folder: Path, tmp_path: Path) -> None:
    picture = np.asarray(Image.fromarray(draw_brain(2, 9)[3:27]).resize((90, 70)))
    Image.fromarray(picture).save(tmp_path / "wide.png")
    mask = np.zeros((70, 90), bool)
    mask[25:40, 30:61] = True
    Image.fromarray(mask).save(tmp_path / "hole.png")
    run_complete(folder, tmp_path / "out", num=2, pictures=tmp_path, mask=tmp_path / "hole.png", condition="slice=9")
    for place in range(2):
        filled = read(tmp_path / "out" / f"wide-{place}.png")
        assert filled.shape == (70, 90)
        np.testing.assert_array_equal(filled[~mask], picture[~mask])


def test_slices_of_a_dataset(folder: Path, tmp_path: Path) -> None:
    mask = draw_disc(32, (15, 15), 5)
    Image.fromarray(mask).save(tmp_path / "hole.png")
    options = CompleteOptions(
        prior=folder / "prior", data=folder / "images", split="validate", mask=tmp_path / "hole.png",
        out=tmp_path / "out", num=1, draws=1,
    )  # fmt: skip
    assert complete_slices(options, ALONE) == 3
    assert sorted(path.name for path in (tmp_path / "out").glob("s4*.png")) == [
        "s4_0-0.png",
        "s4_10-0.png",
        "s4_20-0.png",
    ]


@pytest.mark.ranks
def test_two_ranks_write_the_same_files(folder: Path, tmp_path: Path) -> None:
    run_complete(folder, tmp_path / "on-1", num=2)
    given = {"prior": folder / "prior", "pictures": folder / "pictures", "mask": folder / "masks", "num": 2}
    run_on_ranks("complete", *words(given | {"out": tmp_path / "on-2"}), ranks=2)
    alone, together = ({path.name: path.read_bytes() for path in out.iterdir()} for out in sorted(tmp_path.iterdir()))
    assert len(alone) == 8
    assert alone == together


def test_a_used_folder_is_refused(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").touch()
    given = {"prior": folder / "prior", "pictures": folder / "pictures", "out": tmp_path, "mask": folder / "masks"}
    assert run_command(complete.main, words(given)) == 2
    assert "found a folder that is not empty; expected an empty or new one, or --overwrite" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_all_problems_are_reported_together(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def fails_with(*expected: str, **options: object) -> None:
        given = {"prior": folder / "prior", "pictures": folder / "pictures", "mask": folder / "masks"}
        given |= {"out": tmp_path / "out", "device": "cpu"} | options
        arguments = words({name: value for name, value in given.items() if value is not None})
        assert run_command(complete.main, arguments) == 2
        message = capsys.readouterr().err
        assert all(part in message for part in expected), message
        assert not (tmp_path / "out").exists()

    fails_with("--pictures and --data: found neither; expected one of them", pictures=None)
    fails_with("--pictures and --data: found both", data=folder / "images")
    fails_with(
        "kind: found vqvae; expected pixelcnn", "--condition: found 'age'", prior=folder / "run", condition="age"
    )
    fails_with("temperature: found -1.0", temperature=-1)
    for name in ("black", "small"):
        (tmp_path / name).mkdir()
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(tmp_path / "black" / "case_1_slice_3.png")
    Image.fromarray(np.ones((9, 9), np.uint8)).save(tmp_path / "small" / "all.png")
    fails_with("no mask of 1 of 2 slices, for example", "case_1_slice_12.png", mask=tmp_path / "black")
    fails_with("found 9 x 9 pixels, for 2 slices; expected 32 x 32 pixels", mask=tmp_path / "small" / "all.png")
    one = folder / "pictures" / "case_1_slice_3.png"
    fails_with(
        "no white pixel; expected white where the slice is to be filled in", pictures=one, mask=tmp_path / "black"
    )
    fails_with("--condition slice: found 99; expected a number in [0, 21)", condition="slice=99")
    Image.fromarray(draw_brain(1, 3)).save(tmp_path / "black" / "unnumbered.png")
    fails_with(
        "unnumbered.png: found no slice number; expected one; name the pictures as",
        pictures=tmp_path / "black" / "unnumbered.png",
        mask=tmp_path / "black" / "case_1_slice_3.png",
    )


def test_a_volume_is_refused(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = {"prior": folder / "prior", "mask": folder / "masks", "out": tmp_path / "out", "device": "cpu"}
    volume = save_oriented(tmp_path / "scan.nii.gz", "RAS")
    assert run_command(complete.main, words(given | {"pictures": volume})) == 2
    assert "found NIfTI volumes; expected pictures; for volumes, run `vqdist shard" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["prior", "pictures", "mask"])
def test_the_option_of_an_unusable_path_is_named(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    given = {"prior": folder / "prior", "pictures": folder / "pictures", "mask": folder / "masks"}
    given |= {"out": tmp_path / "out", "device": "cpu", option: tmp_path / "nothing"}
    assert run_command(complete.main, words(given)) == 2
    assert f"error: --{option} {tmp_path / 'nothing'}: found n" in capsys.readouterr().err
