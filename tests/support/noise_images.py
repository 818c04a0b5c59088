"""Small datasets of random images, and access to their shards, for tests of the shard format."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from vqdist.data.shards.index import index_path
from vqdist.data.shards.manifest import load_manifest
from vqdist.data.shards.reader import ShardReader
from vqdist.data.shards.writer import ShardSetWriter

NOISE_SIZE = (6, 8)


def make_noise(number: int, channels: int = 1) -> np.ndarray:
    """Return (C, 6, 8) random pixels."""
    return np.random.default_rng(number).integers(0, 256, (channels, *NOISE_SIZE), dtype=np.uint8)


def write_noise_set(out: Path, samples: int = 10, channels: int = 1, **options: object) -> Path:
    """Write a dataset of random images: `samples` in train, 2 in test, 4 per shard."""
    kind = {"kind": "images", "image_size": NOISE_SIZE, "channels": channels, "samples_per_shard": 4}
    with ShardSetWriter(out, **(kind | options)) as writer:
        for split, count in (("train", samples), ("test", 2)):
            for i in range(count):
                info = {"subject": f"{split}-{i // 3}", "slice": i % 3, "label": i % 2, "source": f"é{i}.png"}
                writer.write_image(split, f"{split}_{i:03d}", make_noise(i, channels), info)
    return out


def open_reader(folder: Path, split: str = "train") -> ShardReader:
    """Open a split of a dataset."""
    return ShardReader(folder, load_manifest(folder), split)


def read_all(folder: Path, split: str = "train") -> list[dict[str, Any]]:
    """Read every sample of a split."""
    reader = open_reader(folder, split)
    return [reader.read(index) for index in range(len(reader))]


def read_index(shard: Path) -> dict[str, Any]:
    """Return the JSON of a shard's index."""
    return json.loads(index_path(shard).read_bytes())


def flip_bit(path: Path, offset: int) -> None:
    """Flip the lowest bit of one byte of a file."""
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)
