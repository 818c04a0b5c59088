"""A user's own pictures through a saved model: by one command, and in two lines of Python."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support import save_vqvae

from vqdist import evaluate, load_model
from vqdist.foundation.command import run_command
from vqdist.foundation.errors import DataError
from vqdist.inference.reconstruction import load_pictures, reconstruct_pictures
from vqdist.plotting.image_grids import GAP_PIXELS as GAP


def draw_pictures(folder: Path) -> Path:
    (folder / "more").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(256, size=(40, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "wide.jpg")
    Image.fromarray(pixels[:, :, 0]).save(folder / "more" / "grey.PNG")
    (folder / "notes.txt").write_text("no picture")
    return folder


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_reconstructed_beside_their_originals(tmp_path: Path, channels: int) -> None:
    run, pictures = save_vqvae(tmp_path / "run", channels=channels), draw_pictures(tmp_path / "mine")
    told = reconstruct_pictures(run, pictures, tmp_path / "out")
    assert told["pictures"] == 2
    written = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.png"))
    assert written == ["pictures/0000-more-grey.png", "pictures/0001-wide.png", "reconstructions.png"]
    images = load_pictures(pictures, image_size=32, channels=channels)
    assert images.shape == (2, channels, 32, 32)
    model = load_model(run)
    with Image.open(tmp_path / "out" / "reconstructions.png") as picture:
        found = np.asarray(picture).reshape(2 * (32 + GAP) + GAP, 2 * (32 + GAP) + GAP, channels)
    below = found[GAP + 32 + GAP :][:32, GAP : GAP + 32].transpose(2, 0, 1)
    expected = model.reconstruct(images)[0].numpy() * 255
    np.testing.assert_allclose(below, expected, atol=0.51)


def test_the_command_takes_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, pictures = save_vqvae(tmp_path / "run"), draw_pictures(tmp_path / "mine")
    arguments = ["--run", run, "--pictures", pictures / "wide.jpg", "--figures", tmp_path / "out", "--device", "cpu"]
    assert run_command(evaluate.main, [str(item) for item in arguments]) == 0
    written = capsys.readouterr()
    told = json.loads(written.out)
    assert (told["task"], told["pictures"], told["overview"]) == ("vqvae", 1, str(tmp_path / "out/reconstructions.png"))
    assert 0 < told["metrics"]["ssim"] < 1
    assert f"look at {tmp_path / 'out/reconstructions.png'}, and at each picture" in written.err
    assert (tmp_path / "out" / "pictures" / "0000-wide.png").is_file()


def test_a_folder_without_pictures_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found no pictures"):
        load_pictures(tmp_path)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(DataError, match=r"broken\.png"):
        load_pictures(tmp_path)
    assert torch.is_tensor(load_pictures(draw_pictures(tmp_path / "mine")))
