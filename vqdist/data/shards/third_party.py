"""Third-party shards: WebDataset tars without a manifest, indexed once into the cache folder.

The index is a dataset of its own: a manifest, an index for each shard, and symbolic links to the tars. Damage that is
older than the index goes unnoticed, unless it breaks a tar or a picture.
"""

import fcntl
import hashlib
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vqdist.data.shards.codecs import decode_png, read_picture_size
from vqdist.data.shards.index import build_index, encode_index, index_path
from vqdist.data.shards.manifest import MANIFEST, SPLITS, Manifest, ShardInfo, SplitInfo, load_manifest, write_manifest
from vqdist.data.shards.writer import PixelHistogram
from vqdist.data.sources.file_names import natural_key, parse_split
from vqdist.foundation.atomic_files import output_folder
from vqdist.foundation.errors import DamagedDataError, DataError
from vqdist.foundation.json_validation import parse_json

_PICTURES = ("png", "jpg", "jpeg")
_SAMPLES_OF_STATISTICS = 4096  # per split, for mean and variance of the pixels


def find_tars(folder: Path) -> list[Path]:
    """Return the tars below a folder, in natural order."""
    return sorted(folder.rglob("*.tar"), key=lambda tar: natural_key(tar.as_posix()))


def index_third_party_shards(folder: Path, tars: list[Path], cache_dir: Path) -> Path:
    """Index third-party shards, unless it was done before, and return the folder of the index.

    Args:
        folder: folder of the shards.
        tars: as `find_tars` returns them; members are KEY.png or KEY.jpg, with KEY.json, KEY.cls or neither.
        cache_dir: where the index is kept. One process creates it; the others wait.
    Raises:
        DataError: the shards differ from those that were indexed before, or are not of one image size.
        DamagedDataError: a tar is damaged.
    """
    cache_dir.mkdir(parents=True, exist_ok=True)
    with open(cache_dir / ".lock", "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _find_or_create_index(folder.resolve(), [tar.relative_to(folder) for tar in tars], cache_dir)


def _find_or_create_index(folder: Path, tars: list[Path], cache_dir: Path) -> Path:
    name = hashlib.sha256(str(folder).encode()).hexdigest()[:16]
    out = cache_dir / f"shards-{name}"
    listed = [str(tar) for tar in tars]
    if (out / MANIFEST).exists():
        if load_manifest(out).source.get("shards") != listed:
            expected = f"the same shards; delete {out} to index them again"
            raise DataError.of(str(folder), "other shards than were indexed before", expected)
        return out
    with output_folder(out) as temporary:
        splits: dict[str, _SplitIndexer] = {}
        for tar in tars:
            split = _split_name(tar)
            splits.setdefault(split, _SplitIndexer(split, temporary)).add(folder / tar)
        write_manifest(temporary, _build_manifest(splits, {"path": str(folder), "shards": listed}))
    return out


def _split_name(tar: Path) -> str:
    """Return the split in the names of a tar's folders or in the words of its own name; train if there is none."""
    words = [*tar.parts[:-1], *re.split(r"[-_.\d]+", tar.stem)]
    return next((split for word in words if (split := parse_split(word))), "train")


@dataclass
class _SplitIndexer:
    """Indexes the tars of one split and collects the statistics of its samples."""

    name: str
    folder: Path
    shards: list[ShardInfo] = field(default_factory=list)
    subjects: set[str] = field(default_factory=set)
    counts: dict[str, int] = field(default_factory=dict)  # 1 + the greatest slice number and label
    sizes: dict[tuple[tuple[int, int], int], str] = field(default_factory=dict)  # ((H, W), channels) -> first sample
    pixels: PixelHistogram | None = None
    samples: int = 0

    def add(self, tar: Path) -> None:
        index = build_index(tar)
        with open(tar, "rb") as file:
            samples = [self._describe_sample(tar, file.fileno(), sample) for sample in index["samples"]]
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        name = f"{self.name}/shard-{len(self.shards):06d}.tar"
        data = encode_index({**index, "samples": samples})
        link = self.folder / name
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(tar)
        index_path(link).write_bytes(data)
        size = tar.stat().st_size
        self.shards.append(ShardInfo(name, len(samples), size, digest, hashlib.sha256(data).hexdigest()))

    def _describe_sample(self, tar: Path, file: int, sample: dict[str, Any]) -> dict[str, Any]:
        """Return a sample's entry in the index, with subject, slice and label of its JSON or class."""
        where = f"{tar}, sample {sample['key']}"
        members = sample["members"]
        picture = next((members[name] for name in _PICTURES if name in members), None)
        if picture is None:
            raise DataError.of(where, ", ".join(members), f"a picture, {' or '.join(_PICTURES)}")
        payload = os.pread(file, picture[1], picture[0])
        size, channels = read_picture_size(payload, where)
        self.sizes.setdefault((size, channels), where)
        if self.samples < _SAMPLES_OF_STATISTICS:
            self.pixels = self.pixels or PixelHistogram(channels)
            if len(self.sizes) == 1:
                self.pixels.add(decode_png(payload, image_size=size, channels=channels, where=where))
        info = _read_info(file, members, where)
        self.samples += 1
        self.subjects.add(info["subject"] or f"{tar}:{sample['key']}")
        for name in ("slice", "label"):
            if info[name] is not None:
                self.counts[name] = max(self.counts.get(name, 0), info[name] + 1)
        return {"key": sample["key"], "subject": info["subject"], "members": {"png": picture}, "info": info}

    def to_info(self) -> SplitInfo:
        mean, variance = self.pixels.moments() if self.pixels else (None, None)
        return SplitInfo(tuple(self.shards), self.samples, len(self.subjects), mean, variance)


def _read_info(file: int, members: dict[str, list[int]], where: str) -> dict[str, Any]:
    """Return subject, source, slice and label of a sample's JSON or class; None for those that are missing."""
    found: Any = {}
    if "json" in members:
        offset, size, _ = members["json"]
        found = parse_json(os.pread(file, size, offset), where)
    found = found if isinstance(found, dict) else {}
    if "label" not in found and "cls" in members:
        offset, size, _ = members["cls"]
        text = os.pread(file, min(size, 32), offset).strip()
        if not re.fullmatch(rb"\d{1,9}", text):
            raise DamagedDataError.of(where, f"class {text[:32]!r}", "a whole number")
        found["label"] = int(text)
    info: dict[str, Any] = {name: found.get(name) for name in ("subject", "source")}
    info = {name: value if isinstance(value, str) else None for name, value in info.items()}
    for name in ("slice", "label"):
        value = found.get(name)
        info[name] = value if type(value) is int and 0 <= value < 2**31 else None
    return info


def _build_manifest(splits: dict[str, _SplitIndexer], source: dict[str, Any]) -> Manifest:
    sizes = {size: where for split in splits.values() for size, where in split.sizes.items()}
    if len(sizes) != 1:
        found = "; ".join(f"{size[0]} x {size[1]} x {channels} in {where}" for (size, channels), where in sizes.items())
        expected = "pictures of one size; `python -m vqdist.shard` resizes them"
        raise DataError.of(source["path"], found or "no samples", expected)
    ((image_size, channels),) = sizes
    counts = {name: max(split.counts.get(name, 0) for split in splits.values()) or None for name in ("slice", "label")}
    return Manifest(
        kind="images",
        image_size=image_size,
        channels=channels,
        splits={name: splits[name].to_info() for name in SPLITS if name in splits},
        source=source,
        num_slices=counts["slice"],
        num_labels=counts["label"],
    )
