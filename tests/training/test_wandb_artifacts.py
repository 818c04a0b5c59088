"""The dataset and the models of a run have the same names in every run of a pipeline."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support.models import save_vqvae

from vqdist.data.shards.manifest import Manifest
from vqdist.models.io import fingerprint
from vqdist.training.wandb_artifacts import log_inputs, log_model, name_model


class RecordingTracker:
    """Records the artifacts, (type, name, path, is_input), and their metadata and aliases."""

    def __init__(self, *, active: bool = True) -> None:
        self.active = active
        self.artifacts: list[tuple[str, str, Path, bool]] = []
        self.metadata: list[dict[str, Any]] = []
        self.aliases: list[Sequence[str]] = []

    def log_artifact(
        self,
        kind: str,
        name: str,
        *,
        path: Path,
        metadata: dict[str, Any],
        is_input: bool,
        aliases: Sequence[str] = (),
    ) -> None:
        self.artifacts.append((kind, name, path, is_input))
        self.metadata.append(metadata)
        self.aliases.append(aliases)


def test_the_vqvae_that_a_run_made_is_the_input_of_the_next(tmp_path: Path) -> None:
    save_vqvae(tmp_path / "run")
    digest = fingerprint(tmp_path / "run")
    first, second = RecordingTracker(), RecordingTracker()
    log_inputs(first, "images", Manifest("images", (32, 32), 1, {}))
    log_model(first, tmp_path / "run", "vqvae")
    source = {"vqvae_run": "run"}
    codes = Manifest("codes", (32, 32), 1, {}, source, num_codes=8, grid=(8, 8), vqvae_fingerprint=digest)
    log_inputs(second, "codes", codes)
    (images, made), (used, dataset) = first.artifacts, second.artifacts
    assert images[0] == "dataset"
    assert images[2:] == (Path("images/dataset.json"), True)
    assert made == ("model", "vqvae-run", tmp_path / "run" / "model", False)
    assert first.aliases == [(), ["best"]]
    assert first.metadata[1] == {"fingerprint": digest, "step": 0}
    assert used == ("model", made[1], Path("codes/vqvae"), True)
    assert dataset[0] == "codes"
    assert dataset[2:] == (Path("codes/dataset.json"), True)


def test_codes_of_earlier_versions_name_the_vqvae_by_its_fingerprint() -> None:
    tracker = RecordingTracker()
    codes = Manifest("codes", (32, 32), 1, {}, num_codes=8, grid=(8, 8), vqvae_fingerprint="0123456789abcdef")
    log_inputs(tracker, "codes", codes)
    assert tracker.artifacts[0][1] == "vqvae-0123456789ab"


def test_names_have_only_characters_that_wandb_takes() -> None:
    assert name_model("vqvae", "größe_1.2") == "vqvae-gr--e_1.2"
    assert len(name_model("pixelcnn", "x" * 300)) == 128


@pytest.mark.parametrize("active", [True, False])
def test_nothing_is_logged_without_a_model_or_a_process(tmp_path: Path, active: bool) -> None:
    tracker = RecordingTracker(active=active)
    log_model(tracker, tmp_path, "vqvae")
    if not active:
        log_inputs(tracker, "images", Manifest("images", (32, 32), 1, {}))
    assert tracker.artifacts == []
