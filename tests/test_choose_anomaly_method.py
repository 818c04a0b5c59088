"""launch/choose_anomaly_method.py compares variants of the anomaly map on planted lesions."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
from support import save_prior, save_vqvae, write_codes, write_images
from support.lesions import draw_brain

LAUNCH = Path(__file__).parents[1] / "launch"


@pytest.mark.parametrize("kind", ["dark", "bright", "ring", "grey", "swelling"])
def test_planted_lesions(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(LAUNCH)
    planted_lesions = importlib.import_module("planted_lesions")
    image = draw_brain(3, 12, size=128)
    for seed in range(3):
        lesion = planted_lesions.plant_lesion(image, kind, np.random.default_rng(seed))
        again = planted_lesions.plant_lesion(image, kind, np.random.default_rng(seed))
        assert np.array_equal(lesion.image, again.image)
        assert ((lesion.image > 0) == (image > 0)).all()
        area = lesion.mask.sum()
        assert 0.5 * np.pi * 2**2 < area < 1.7 * np.pi * 6.5**2  # radii of 2 to 6.5 pixels at this size
        assert (image[lesion.mask] > 0).all()
        change = lesion.image.astype(float) - image
        assert np.abs(change[lesion.mask]).mean() > 2 * np.abs(change[~lesion.mask]).mean()
        means = change[lesion.mask].mean()
        assert {"dark": means < -20, "bright": means > 5, "grey": means < 0}.get(kind, True)


def test_all_variants_are_measured_on_the_same_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(LAUNCH)
    script = importlib.import_module("choose_anomaly_method")
    images = write_images(tmp_path / "images")
    prior = save_prior(tmp_path / "prior", write_codes(tmp_path / "codes", save_vqvae(tmp_path / "run"), images))
    script.main(prior, images, tmp_path / "out")
    found = json.loads((tmp_path / "out" / "variants.json").read_text())
    assert list(found) == list(script.VARIANTS)
    shipped, others = found["as shipped"], [found[name] for name in script.VARIANTS if name != "as shipped"]
    assert shipped["lesion_slices"] == 3
    assert all(report["baselines"]["bits"]["pixel_ap"] == shipped["baselines"]["bits"]["pixel_ap"] for report in others)
    assert sum(report["pixel_ap"] != shipped["pixel_ap"] for report in others) > 3
