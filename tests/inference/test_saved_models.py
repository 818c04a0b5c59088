"""Saved models are read with their types, and a prior with the VQ-VAE of its codes."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support import save_prior, save_vqvae, write_codes, write_image_set

from vqdist.foundation.errors import CheckpointError, UserError
from vqdist.inference.saved_models import build_pixelcnn, build_vqvae, read_vqvae_of, report_failed_training
from vqdist.models.io import read_model_files, save_model
from vqdist.models.pixelcnn import PixelCNN


def test_a_prior_is_saved_with_the_vqvae_of_its_codes(tmp_path: Path) -> None:
    images, run = write_image_set(tmp_path / "images"), save_vqvae(tmp_path / "run")
    prior = read_model_files(save_prior(tmp_path / "prior", write_codes(tmp_path / "codes", run, images)))
    alone, saved = read_model_files(run), read_vqvae_of(prior)
    assert saved.card.fingerprint == alone.card.fingerprint
    expected = build_vqvae(alone).state_dict()
    for name, value in build_vqvae(saved).state_dict().items():
        assert torch.equal(value, expected[name])
    assert build_pixelcnn(prior).num_codes == build_vqvae(saved).num_codes


def test_a_prior_without_its_vqvae_names_what_saves_both(tmp_path: Path) -> None:
    save_model(PixelCNN(8, hidden=8, layers=1), tmp_path / "prior")
    with pytest.raises(CheckpointError, match=r"save_model\(prior, folder, vqvae_dir=\.\.\.\)"):
        read_vqvae_of(read_model_files(tmp_path / "prior"))


def test_a_vqvae_has_no_vqvae_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(UserError):
        read_vqvae_of(read_model_files(save_vqvae(tmp_path / "run")))


def test_the_model_of_a_failed_training_has_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = save_vqvae(tmp_path / "run")
    files = read_model_files(run)
    for state in ("finished", "failed"):
        (run / "status.json").write_text(json.dumps({"state": state, "step": 30}))
        report_failed_training(run, files._replace(card=replace(files.card, step=20)))
    said = capsys.readouterr().err
    assert said == f"WARNING: {run}: its training failed at step 30; the model is that of step 20\n"
