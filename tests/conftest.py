"""Datasets that several test files read. They are made once; tests that change one copy it first."""

from pathlib import Path

import pytest
from support import write_code_set, write_image_set


@pytest.fixture(scope="session")
def image_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 synthetic slices of 32 x 32 in train, 9 in validate, 9 in test."""
    return write_image_set(tmp_path_factory.mktemp("data") / "images")


@pytest.fixture(scope="session")
def code_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 synthetic maps of 8 x 8 codes in train, 9 in validate, 9 in test, from 16 codes."""
    return write_code_set(tmp_path_factory.mktemp("data") / "codes")
