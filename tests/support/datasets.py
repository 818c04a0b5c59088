"""Synthetic datasets: brain-like slices, and maps of random codes."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vqdist.data.shards.codecs import encode_codes, encode_png
from vqdist.data.shards.writer import ShardSetWriter
from vqdist.data.sources.phantom import phantom_slice
from vqdist.foundation.json_validation import AffineRows
from vqdist.models.io import fingerprint, save_model
from vqdist.models.vqvae import VQVAE

SIZE, NUM_CODES, GRID = 32, 16, (8, 8)
TINY_VQVAE = {"hidden": 8, "residual_hidden": 4, "residual_layers": 1, "downsample": 4, "code_dim": 4, "num_codes": 16}


@dataclass(frozen=True)
class Slices:
    """The slices of a synthetic dataset.

    Attributes:
        subjects: the subjects of each split.
        numbers: the slices of each subject.
        key: the format of the sample keys.
        samples_per_shard: the size of the shards.
    """

    subjects: Mapping[str, Sequence[int]]
    numbers: Sequence[int]
    key: str
    samples_per_shard: int

    def list_samples(self) -> Iterator[tuple[str, str, int, int]]:
        """Yield split, key, subject and slice number of each sample."""
        for split, subjects in self.subjects.items():
            for subject in subjects:
                for number in self.numbers:
                    yield split, self.key.format(subject, number), subject, number


# 60 slices in train, 9 in validate, 9 in test.
MANY = Slices({"train": range(20), "validate": range(20, 23), "test": range(23, 26)}, (4, 12, 20), "s{:02d}-{:02d}", 7)
# 12 slices in train, 3 in validate, 9 in test.
FEW = Slices({"train": range(4), "validate": range(4, 5), "test": range(5, 8)}, (0, 10, 20), "s{}_{}", 5)

# Volumes of 4 neighbouring slices: 5 in train, in shards that no volume fits into evenly, 1 in validate, 2 in test.
VOLUMES = Slices({"train": range(5), "validate": range(5, 6), "test": range(6, 8)}, range(14, 18), "s{}_slice_{}", 7)


def write_image_set(
    out: Path, *, slices: Slices = MANY, channels: int = 1, size: int = SIZE, affine: AffineRows | None = None
) -> Path:
    """Write a dataset of synthetic slices."""
    kind = {"kind": "images", "image_size": (size, size), "channels": channels}
    with ShardSetWriter(out, **kind, samples_per_shard=slices.samples_per_shard, affine=affine) as writer:
        for split, key, subject, number in slices.list_samples():
            image = np.repeat(phantom_slice(subject, number, image_size=size)[None], channels, axis=0)
            writer.write(split, key, encode_png(image), describe(subject, number))
    return out


def write_images(out: Path, *, channels: int = 1, size: int = SIZE) -> Path:
    """Write a dataset of few synthetic slices: 12 in train, 3 in validate, 9 in test, 5 per shard."""
    return write_image_set(out, slices=FEW, channels=channels, size=size)


def write_code_set(out: Path, *, slices: Slices = MANY) -> Path:
    """Write a dataset of random 8 x 8 maps of codes, one per slice, with the untrained VQ-VAE that it names."""
    torch.manual_seed(0)
    kind = {"kind": "codes", "image_size": (SIZE, SIZE), "channels": 1, "num_codes": NUM_CODES, "grid": GRID}
    with tempfile.TemporaryDirectory() as folder:
        save_model(VQVAE(1, **TINY_VQVAE), Path(folder) / "vqvae", step=0)
        kind["vqvae_fingerprint"] = fingerprint(Path(folder) / "vqvae")
        with ShardSetWriter(out, **kind, samples_per_shard=slices.samples_per_shard) as writer:
            (Path(folder) / "vqvae").rename(writer.folder / "vqvae")
            for split, key, subject, number in slices.list_samples():
                codes = np.random.default_rng([subject, number]).integers(0, NUM_CODES, GRID) // 2
                writer.write(split, key, encode_codes(codes, NUM_CODES), describe(subject, number))
    return out


def describe(subject: int, number: int) -> dict[str, Any]:
    """Return the JSON of a synthetic sample."""
    return {"subject": f"s{subject:02d}", "slice": number, "label": subject % 2, "source": "synthetic"}
