"""The manifest of a data set, `dataset.json`: what the shards must hold, so that a reader can tell damage.

It is read as a stranger's file, and no name in it may leave the data set's folder.
"""

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vqdist.foundation.errors import DataError
from vqdist.foundation.json_validation import Fields, load_json

MANIFEST = "dataset.json"
FORMAT_VERSION = 1
SPLITS = ("train", "validate", "test")
MAX_MANIFEST_BYTES = 64 * 2**20
_SAFE_PART = re.compile(r"[\w-][\w.+=@ -]{0,254}", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_UNFINISHED = re.compile(r"\.(tmp|old)-\d+$")


@dataclass(frozen=True)
class ShardInfo:
    """One shard as it was when it was written.

    Attributes:
        name: path inside the data set, for example train/shard-000000.tar.
        samples: how many it holds.
        bytes: size of the tar.
        sha256: of the tar.
        index_sha256: of the index beside it; None where the maker of the manifest did not say.
    """

    name: str
    samples: int
    bytes: int
    sha256: str
    index_sha256: str | None = None


@dataclass(frozen=True)
class SplitInfo:
    """The shards of one split, in order, and what is in them.

    Attributes:
        samples, subjects: how many.
        mean, variance: of the pixels in [0, 1], one per channel; None for codes.
    """

    shards: tuple[ShardInfo, ...]
    samples: int
    subjects: int
    mean: tuple[float, ...] | None = None
    variance: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Manifest:
    """All that a reader must know of a data set before it opens a shard.

    Attributes:
        kind: "images" or "codes".
        image_size: (H, W) in pixels; of codes, that of the images they were made from.
        source: where the data came from and how it was sharded; free text for people.
        num_codes, grid, vqvae_fingerprint: K, (h, w) and the VQ-VAE of a set of codes, else None.
        num_slices, num_labels: 1 + the greatest slice number and label; None where samples carry none.
        conditions: (label, slice, samples of train that carry the two) for each pair; what a prior draws from.
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
    format_version: int = FORMAT_VERSION

    @property
    def extension(self) -> str:
        """The extension of a sample's payload, which is its key in a sample too."""
        return "png" if self.kind == "images" else "npy"

    @property
    def values_shape(self) -> tuple[int, ...]:
        """The shape of a decoded sample: (C, H, W) of an image, (h, w) of a map of codes."""
        return (self.channels, *self.image_size) if self.grid is None else self.grid

    @property
    def values_dtype(self) -> str:
        """The type in which decoded samples are kept and sent between processes."""
        return "uint8" if self.kind == "images" else "int32"

    @property
    def fingerprint(self) -> str:
        """The sha256 over all that decides what is read: kind, sizes and the content of every shard, in order."""
        facts: list[Any] = [self.kind, self.image_size, self.channels, self.num_codes, self.grid]
        facts += [
            [name, [[shard.samples, shard.sha256] for shard in split.shards]]
            for name, split in sorted(self.splits.items())
        ]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Return the manifest as plain JSON values."""
        return {"format_version": self.format_version, **asdict(self)}

    @classmethod
    def from_json(cls, values: object, *, where: str = MANIFEST) -> "Manifest":
        """Build a manifest from decoded JSON; DataError names the first value that is not as it must be."""
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
        )


def load_manifest(path: str | Path) -> Manifest:
    """Read the manifest of the data set in a folder.

    Raises:
        DataError: no such folder, no manifest in it, or a manifest that is not as it must be.
    """
    folder = Path(path)
    if _UNFINISHED.search(folder.resolve().name):
        raise DataError.of(str(folder), "what a killed command left behind", "a finished data set")
    if not folder.is_dir():
        raise DataError.of(str(folder), "no such folder", "a data set: make one with `python -m vqdist.shard`")
    if not (folder / MANIFEST).exists():
        expected = "a data set: `python -m vqdist.shard` makes one of a folder of pictures"
        raise DataError.of(str(folder), f"no {MANIFEST} and no shards", expected)
    return Manifest.from_json(load_json(folder / MANIFEST, MAX_MANIFEST_BYTES), where=str(folder / MANIFEST))


def is_safe_name(name: str) -> bool:
    """Whether a path inside a data set stays there: plain relative parts, no dot-dot, no hidden file."""
    return len(name) <= 1024 and all(_SAFE_PART.fullmatch(part) for part in name.split("/"))


def _split_from_json(name: str, values: object, channels: int | None, where: str) -> SplitInfo:
    split = Fields(values, where)
    if not is_safe_name(name) or "/" in name:
        split.fail("name", name, "a plain word, such as train")
    shards = tuple(_shard_from_json(shard, f"{where}.shards[{i}]") for i, shard in enumerate(split.items("shards")))
    samples = split.integer("samples")
    if samples != sum(shard.samples for shard in shards):
        split.fail("samples", samples, f"the sum over its shards, {sum(shard.samples for shard in shards)}")
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
        shard.fail("name", name, "the path of a .tar inside the data set's folder")
    digests = [shard.text("sha256"), shard.optional("index_sha256", shard.text)]
    for digest in digests:
        if digest is not None and not _SHA256.fullmatch(digest):
            shard.fail("sha256", digest, "64 hexadecimal digits")
    samples, size = shard.integer("samples"), shard.integer("bytes")
    if samples * 512 > size:
        shard.fail("samples", samples, f"no more than fit into its {size} bytes")
    return ShardInfo(name, samples, size, str(digests[0]), digests[1])
