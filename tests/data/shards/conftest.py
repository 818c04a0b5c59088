"""Fixtures for tests of the shard format."""

from pathlib import Path

import pytest
from support.noise_images import write_noise_set


@pytest.fixture
def noise_set(tmp_path: Path) -> Path:
    """10 random images in train and 2 in test, 4 per shard."""
    return write_noise_set(tmp_path / "set")
