"""The manifest of a dataset, `dataset.json`: the content of its shards, against which a reader verifies them.

It is read as untrusted input: every value is checked, and no name in it may point outside the dataset's folder.
"""

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from vqdist.config.attribute_json import ATTRIBUTES, ROWS, read_attributes, read_rows, write_attributes
from vqdist.config.attributes import AttributeRow, Attributes
from vqdist.foundation.atomic_files import is_leftover
from vqdist.foundation.dataset_folder import MANIFEST
from vqdist.foundation.errors import DataError
from vqdist.foundation.json_validation import AffineRows, Fields, load_json

FORMAT_VERSION = 1
SPLITS = ("train", "validate", "test")
MAX_MANIFEST_BYTES = 64 * 2**20
_SAFE_PART = re.compile(r"[\w-][\w.+=@ -]{0,254}", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class ShardInfo:
    """One shard as it was written.

    Attributes:
        name: path in the dataset's folder, for example train/shard-000000.tar.
        samples: number of samples.
        bytes: size of the tar.
        sha256: of the tar.
        index_sha256: of its index; None in manifests that do not contain it.
    """

    name: str
    samples: int
    bytes: int
    sha256: str
    index_sha256: str | None = None


@dataclass(frozen=True)
class SplitInfo:
    """The shards of one split, in order, and statistics of its samples.

    Attributes:
        samples, subjects: number of samples and of subjects.
        mean, variance: of the pixels in [0, 1], per channel; None for codes.
    """

    shards: tuple[ShardInfo, ...]
    samples: int
    subjects: int
    mean: tuple[float, ...] | None = None
    variance: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Manifest:
    """Description of a dataset.

    Attributes:
        kind: "images" or "codes".
        image_size: (H, W) in pixels; for codes, the size of the images that were encoded.
        channels: 1 or 3; for codes, the channels of these images.
        splits: name -> SplitInfo.
        source: origin of the data and settings of the sharding, for people to read.
        num_codes, grid, vqvae_fingerprint: number of codes K, (h, w) and the VQ-VAE of a dataset of codes, else None.
        class_names: name of each label.
        num_slices, num_labels: 1 + the greatest slice number and label; None if no sample has one.
        conditions: (label, slice, number of train samples) for each pair that occurs in train.
        attributes: what the train split shows of each attribute, such as age; empty without a table of subjects.
        attribute_rows: the combinations of attributes that occur in train, in the order of `attributes`.
        image_key: extension of the pictures that data.image_key chose among several in a sample, for third-party
            shards; None where there was no choice.
        affine: (4, 4) from (row, column, slice number) to millimetres, with right, front and top positive (RAS+): the
            orientation, the spacing and the position of slice 0. Of the first volume, where they differ; None if
            unknown.
    """

    kind: str
    image_size: tuple[int, int]
    channels: int
    splits: dict[str, SplitInfo]
    source: dict[str, Any] = field(default_factory=dict)
    num_codes: int | None = None
    grid: tuple[int, int] | None = None
    vqvae_fingerprint: str | None = None
    class_names: tuple[str, ...] = ()
    num_slices: int | None = None
    num_labels: int | None = None
    conditions: tuple[tuple[int | None, int | None, int], ...] = ()
    image_key: str | None = None
    affine: AffineRows | None = None
    attributes: Attributes = field(default_factory=dict)
    attribute_rows: tuple[AttributeRow, ...] = ()
    format_version: int = FORMAT_VERSION

    def has_samples(self, split: str) -> bool:
        """Return whether the dataset has a split with at least one sample."""
        return split in self.splits and self.splits[split].samples > 0

    @property
    def extension(self) -> str:
        """Extension of a sample's payload, which is also its key in a sample: "png" or "npy"."""
        return "png" if self.kind == "images" else "npy"

    @property
    def values_shape(self) -> tuple[int, ...]:
        """Shape of a decoded sample: (C, H, W) for images, (h, w) for codes."""
        return (self.channels, *self.image_size) if self.grid is None else self.grid

    @property
    def values_dtype(self) -> str:
        """Type in which decoded samples are stored and shared between processes."""
        return "uint8" if self.kind == "images" else "int32"

    @property
    def fingerprint(self) -> str:
        """The sha256 of everything that determines what is read: kind, sizes, and the shards in order."""
        parts: list[Any] = [self.kind, self.image_size, self.channels, self.num_codes, self.grid]
        parts += [
            [name, [[shard.samples, shard.sha256] for shard in split.shards]]
            for name, split in sorted(self.splits.items())
        ]
        parts += [] if self.image_key is None else [self.image_key]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Return the manifest as JSON values."""
        left_out = {ATTRIBUTES, ROWS} | ({"affine"} if self.affine is None else set())
        plain = asdict(replace(self, attributes={}, attribute_rows=()))
        values = {name: value for name, value in plain.items() if name not in left_out}
        values |= write_attributes(self.attributes, self.attribute_rows)
        return {"format_version": self.format_version, **values}

    @classmethod
    def from_json(cls, values: object, *, where: str = MANIFEST) -> "Manifest":
        """Build a manifest from decoded JSON.

        Raises:
            DataError: a value has another type or is out of range; names the first one.
        """
        top = Fields(values, where)
        version = top.integer("format_version", 1)
        if version != FORMAT_VERSION:
            top.fail("format_version", version, f"{FORMAT_VERSION}: another version of vqdist wrote this")
        kind = top.one_of("kind", ("images", "codes"))
        codes = kind == "codes"
        channels = int(top.one_of("channels", (1, 3)))
        splits = {
            name: _split_from_json(name, split, None if codes else channels, f"{where}, splits.{name}")
            for name, split in top.mapping("splits").items()
        }
        attributes = read_attributes(top)
        return cls(
            kind=str(kind),
            image_size=top.pair("image_size"),
            channels=channels,
            splits=splits,
            source=top.mapping("source"),
            num_codes=top.integer("num_codes", 1, 2**31 - 1) if codes else None,
            grid=top.pair("grid") if codes else None,
            vqvae_fingerprint=top.optional("vqvae_fingerprint", top.text) if codes else None,
            class_names=top.texts("class_names"),
            num_slices=top.optional("num_slices", top.integer),
            num_labels=top.optional("num_labels", top.integer),
            conditions=top.conditions("conditions"),
            image_key=top.optional("image_key", top.text),
            affine=top.optional("affine", top.affine),
            attributes=attributes,
            attribute_rows=read_rows(top, attributes),
        )


def load_manifest(path: str | Path) -> Manifest:
    """Read the manifest of the dataset in a folder.

    Raises:
        DataError: there is no dataset, or its manifest is invalid.
    """
    folder = Path(path)
    if is_leftover(folder.resolve()):
        raise DataError.of(str(folder), "a temporary folder of a killed command", "a finished dataset")
    if not folder.is_dir():
        dataset, _, split = str(folder).rpartition(":")
        expected = "a dataset: create one with `vqdist shard`"
        if split in SPLITS and Path(dataset).is_dir():
            expected = f"a dataset: {dataset}, with `--split {split}` for a split of it"
        raise DataError.of(str(folder), "no such folder", expected)
    if not (folder / MANIFEST).exists():
        expected = "a dataset: `vqdist shard` creates one from a folder of pictures"
        raise DataError.of(str(folder), f"no {MANIFEST} and no shards", expected)
    return Manifest.from_json(load_json(folder / MANIFEST, MAX_MANIFEST_BYTES), where=str(folder / MANIFEST))


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `dataset.json` into the folder of a dataset."""
    text = json.dumps(manifest.to_json(), indent=1, ensure_ascii=False, allow_nan=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def is_safe_name(name: str) -> bool:
    """Whether a path in a manifest stays inside the dataset's folder: relative, no "..", no hidden file."""
    return len(name) <= 1024 and all(_SAFE_PART.fullmatch(part) for part in name.split("/"))


def _split_from_json(name: str, values: object, channels: int | None, where: str) -> SplitInfo:
    split = Fields(values, where)
    if not is_safe_name(name) or "/" in name:
        split.fail("name", name, "a plain word, such as train")
    shards = tuple(_shard_from_json(shard, f"{where}.shards[{i}]") for i, shard in enumerate(split.items("shards")))
    samples, total = split.integer("samples"), sum(shard.samples for shard in shards)
    if samples != total:
        split.fail("samples", samples, f"the sum over its shards, {total}")
    if len({shard.name for shard in shards}) != len(shards):
        split.fail("shards", "the same name twice", "each shard once")
    return SplitInfo(
        shards=shards,
        samples=samples,
        subjects=split.integer("subjects"),
        mean=split.numbers("mean", channels),
        variance=split.numbers("variance", channels),
    )


def _shard_from_json(values: object, where: str) -> ShardInfo:
    shard = Fields(values, where)
    name = shard.text("name")
    if not is_safe_name(name) or not name.endswith(".tar"):
        shard.fail("name", name, "the path of a .tar inside the dataset's folder")
    digest, index_digest = shard.text("sha256"), shard.optional("index_sha256", shard.text)
    for name_of_digest, found in (("sha256", digest), ("index_sha256", index_digest)):
        if found is not None and not _SHA256.fullmatch(found):
            shard.fail(name_of_digest, found, "64 hexadecimal digits")
    samples, size = shard.integer("samples"), shard.integer("bytes")
    if samples * 512 > size:
        shard.fail("samples", samples, f"no more than fit into its {size} bytes")
    return ShardInfo(name, samples, size, digest, index_digest)
