"""launch/use_models.py scores and completes synthetic brains with the models of a folder."""

import importlib.util
from pathlib import Path

from support import save_prior, save_vqvae, write_codes, write_images

SCRIPT = Path(__file__).parents[1] / "launch" / "use_models.py"


def test_scores_and_completions_are_written(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("use_models", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    images = write_images(tmp_path / "images")
    codes = write_codes(tmp_path / "codes", save_vqvae(tmp_path / "run"), images)
    prior = save_prior(tmp_path / "prior", codes, condition="slice")
    script.main(tmp_path / "runs", prior, images)
    out = tmp_path / "runs" / "use"
    pictures = sorted(path.stem for path in (out / "pictures").iterdir())
    assert len(pictures) == 8
    assert sorted(path.stem for path in (out / "scores" / "maps").glob("*.png")) == pictures
    assert (out / "scores" / "figures" / "precision-recall.png").exists()
    assert {path.name for path in (out / "completions").glob("*-0.png")} == {f"{name}-0.png" for name in pictures}
