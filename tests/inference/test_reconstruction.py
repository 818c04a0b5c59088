"""Reconstruction of pictures."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support import save_vqvae

from vqdist import load_model
from vqdist.data.sources.pictures import load_picture
from vqdist.foundation.errors import UserError
from vqdist.inference.reconstruction import find_pictures, reconstruct_pictures
from vqdist.plotting.image_grids import GAP_PIXELS as GAP


def draw_pictures(folder: Path) -> Path:
    (folder / "more").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(256, size=(40, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "wide.jpg")
    Image.fromarray(pixels[:, :, 0]).save(folder / "more" / "grey.PNG")
    (folder / "notes.txt").write_text("no picture")
    return folder


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_shown_with_their_reconstructions(tmp_path: Path, channels: int) -> None:
    run, pictures = save_vqvae(tmp_path / "run", channels=channels), draw_pictures(tmp_path / "mine")
    report = reconstruct_pictures(run, pictures, tmp_path / "out")
    assert (report["task"], report["pictures"]) == ("vqvae", 2)
    assert 0 < report["metrics"]["ssim"] < 1
    written = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.png"))
    assert written == ["pictures/0000-more-grey.png", "pictures/0001-wide.png", "reconstructions.png"]
    with Image.open(tmp_path / "out" / "reconstructions.png") as picture:
        found = np.asarray(picture).reshape(2 * (32 + GAP) + GAP, 2 * (32 + GAP) + GAP, channels)
    for column, name in enumerate(("more/grey.PNG", "wide.jpg")):
        original = load_picture(pictures / name, image_size=32, channels=channels)
        recon = load_model(run).reconstruct(torch.tensor(original)[None] / 255)[0].numpy() * 255
        left = GAP + column * (32 + GAP)
        for top, expected in ((GAP, original), (GAP + 32 + GAP, recon)):
            shown = found[top : top + 32, left : left + 32].transpose(2, 0, 1)
            np.testing.assert_allclose(shown, expected, atol=0.51)


def test_a_single_picture_keeps_its_name(tmp_path: Path) -> None:
    run, pictures = save_vqvae(tmp_path / "run"), draw_pictures(tmp_path / "mine")
    assert reconstruct_pictures(run, pictures / "wide.jpg", tmp_path / "out")["pictures"] == 1
    assert (tmp_path / "out" / "pictures" / "0000-wide.png").is_file()


def test_missing_and_broken_pictures_are_named(tmp_path: Path) -> None:
    run = save_vqvae(tmp_path / "run")
    (tmp_path / "empty").mkdir()
    for source, expected in (("empty", "found no pictures"), ("nowhere", "nowhere: found nothing")):
        with pytest.raises(UserError, match=expected):
            reconstruct_pictures(run, tmp_path / source, tmp_path / "out")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(UserError, match=r"broken\.png"):
        reconstruct_pictures(run, tmp_path / "broken.png", tmp_path / "out")
    with pytest.raises(UserError) as error:
        reconstruct_pictures(tmp_path / "no-run", tmp_path / "nowhere", tmp_path / "out")
    assert len(error.value.problems) == 2


@pytest.mark.parametrize(
    ("name", "kind", "way"),
    [
        ("a.nii.gz", "NIfTI", "run `vqdist shard '{folder}' DATA` and give `--data DATA`"),
        ("a.mgz", "FreeSurfer", "nib-convert"),
        ("IM0001", "DICOM", "dcm2niix -z y -f %i_%s -o OUT '{folder}'"),
    ],
)
def test_volumes_are_refused_with_the_way_to_use_them(tmp_path: Path, name: str, kind: str, way: str) -> None:
    folder = tmp_path / "vol umes"
    folder.mkdir()
    (folder / name).write_bytes(bytes(128) + b"DICM")
    for source in (folder, folder / name):
        with pytest.raises(UserError) as error:
            find_pictures(source)
        assert f"found {kind} " in str(error.value)
        assert str(error.value).startswith(f"{source}: found ")
        assert way.format(folder=folder) in str(error.value)
        if kind == "NIfTI":
            with pytest.raises(UserError, match="DATA` and give `--healthy DATA`"):
                find_pictures(source, dataset_option="--healthy DATA")
    Image.new("L", (4, 4)).save(folder / "preview.png")
    assert find_pictures(folder) == [folder / "preview.png"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("status.json", "config.yaml"), "found the folder of a run; expected a picture or a folder of pictures"),
        (
            ("dataset.json",),
            "found a dataset; expected a picture or a folder of pictures; for a dataset, give `--data ",
        ),
    ],
)
def test_previews_and_shards_are_no_pictures(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    (tmp_path / "previews").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "previews" / "step-00000010.png")
    assert len(find_pictures(tmp_path)) == 1
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(UserError) as error:
        find_pictures(tmp_path)
    assert message in str(error.value)
