"""Untrained models and their datasets for the tests of the evaluation; never changed."""

from pathlib import Path

import pytest
from support import save_prior, save_vqvae, write_codes, write_images


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 slices in train, 3 in validate, 9 in test."""
    return write_images(tmp_path_factory.mktemp("evaluation") / "images")


@pytest.fixture(scope="session")
def vqvae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_vqvae(tmp_path_factory.mktemp("evaluation") / "vqvae")


@pytest.fixture(scope="session")
def codes(tmp_path_factory: pytest.TempPathFactory, vqvae: Path, images: Path) -> Path:
    return write_codes(tmp_path_factory.mktemp("evaluation") / "codes", vqvae, images)


@pytest.fixture(scope="session")
def prior(tmp_path_factory: pytest.TempPathFactory, codes: Path) -> Path:
    """A PixelCNN conditioned on the slice number."""
    return save_prior(tmp_path_factory.mktemp("evaluation") / "prior", codes, condition="slice")


@pytest.fixture(autouse=True)
def few_calibration_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """The calibration of near copies is tested in samples/test_copies.py."""
    monkeypatch.setattr("vqdist.evaluation.samples.comparison.CALIBRATION_SLICES", 1)
