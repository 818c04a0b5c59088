"""launch/measure_completion.py compares completions and references in squares that are cut out of slices."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support import save_prior, save_vqvae, write_codes, write_images

LAUNCH = Path(__file__).parents[1] / "launch"


def test_all_settings_are_measured_in_squares_inside_the_brain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(LAUNCH)
    script = importlib.import_module("measure_completion")
    images = write_images(tmp_path / "images")
    prior = save_prior(tmp_path / "prior", write_codes(tmp_path / "codes", save_vqvae(tmp_path / "run"), images))
    out = tmp_path / "out"
    script.main(prior, images, out, every=1)
    found = json.loads((out / "completion.json").read_text())
    assert list(found["ssim"])[2:] == list(script.SETTINGS)
    assert all(-1 <= figures["median"] <= figures["best"] <= 1 for figures in found["ssim"].values())
    pictures = sorted((out / "pictures").iterdir())
    assert len(pictures) == found["slices"] >= 2
    for path in pictures:
        image, mask = (np.array(Image.open(out / name / path.name)) for name in ("pictures", "masks"))
        assert mask.sum() == (len(image) // 4) ** 2
        assert (image[mask] > 0).all()


def test_references_and_ssim(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(LAUNCH)
    script = importlib.import_module("measure_completion")
    generator = torch.Generator().manual_seed(0)
    slices = torch.randint(1, 255, (3, 1, 32, 32), generator=generator, dtype=torch.uint8)
    mask = torch.zeros(32, 32, dtype=torch.bool)
    mask[8:20, 8:20] = True
    image = torch.where(mask, 0, slices[1])  # only the second is equal outside of the square
    filled = script.fill_by_references(image, mask, slices)
    assert torch.equal(filled["most similar training slice"][0], slices[1])
    assert torch.equal(filled["mean of the training slices"][0, :, ~mask], image[:, ~mask])
    assert script.measure_square(slices[1], filled["most similar training slice"], mask.numpy()) == [pytest.approx(1)]
    (other,) = script.measure_square(slices[1], filled["mean of the training slices"], mask.numpy())
    assert other < 0.9
    assert script.summarise([[1.0, 0.0, 0.5], [0.1, 0.3, 0.2]])["median"] == pytest.approx(0.35)
