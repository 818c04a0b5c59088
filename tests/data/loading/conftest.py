"""Fixtures for tests of loading."""

import shutil
from pathlib import Path

import pytest

from vqdist.data.shards.manifest import load_manifest
from vqdist.data.shards.reader import ShardReader


@pytest.fixture
def damaged_set(image_set: Path, tmp_path: Path) -> Path:
    """A copy of the images in which every payload of the first train shard has a flipped bit."""
    folder = tmp_path / "damaged"
    shutil.copytree(image_set, folder)
    shard = folder / "train/shard-000000.tar"
    data = bytearray(shard.read_bytes())
    reader = ShardReader(folder, load_manifest(folder), "train")
    for number in range(7):
        data[reader._index(0).spans[6 * number] + 50] ^= 1
    shard.write_bytes(data)
    return folder
