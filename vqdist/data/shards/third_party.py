"""Shards that somebody else made: plain WebDataset tars without a manifest, indexed once into a cache.

The cache becomes a data set of its own: a manifest, an index for each shard, and links to the tars where
they lie. Damage older than that index cannot be told, but for what breaks a tar or a picture.
"""

import hashlib
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vqdist.data.shards.codecs import decode_png, read_picture_size
from vqdist.data.shards.index import build_index, encode_index, index_path
from vqdist.data.shards.manifest import MANIFEST, SPLITS, Manifest, ShardInfo, SplitInfo, load_manifest
from vqdist.data.shards.writer import PixelTally, write_manifest
from vqdist.data.sources.names import natural_key, split_of
from vqdist.foundation.atomic_files import output_folder
from vqdist.foundation.errors import DamagedDataError, DataError
from vqdist.foundation.json_validation import parse_json

_PICTURES = ("png", "jpg", "jpeg")
_TALLIED = 4096


def find_or_index_dataset(path: str | Path, cache_dir: str | Path) -> Path:
    """Return the folder of a data set: the path itself, or the cache of shards that carry no manifest.

    Args:
        path: a data set, or a folder with tars of KEY.png or KEY.jpg (with KEY.json, KEY.cls or neither).
        cache_dir: where indexes of such tars are kept. Let one rank come first: the others then find them.
    Raises:
        DataError: neither of the two; DamagedDataError: a tar that is broken.
    """
    folder = Path(path)
    if folder.is_dir() and not (folder / MANIFEST).exists() and _list_shards(folder):
        return index_foreign_shards(folder, cache_dir)
    load_manifest(folder)
    return folder


def index_foreign_shards(path: str | Path, cache_dir: str | Path) -> Path:
    """Index a folder of tars without a manifest, or find the index that was made before; return its folder."""
    folder = Path(path).resolve()
    shards = _list_shards(folder)
    name = hashlib.sha256(str(folder).encode()).hexdigest()[:16]
    out = Path(cache_dir) / f"shards-{name}"
    listed = [str(shard.relative_to(folder)) for shard in shards]
    if (out / MANIFEST).exists():
        indexed = load_manifest(out).source.get("shards")
        if indexed != listed:
            raise DataError.of(str(folder), "other shards than were indexed before", f"the same, or no {out}")
        return out
    with output_folder(out) as staging:
        splits: dict[str, _Split] = {}
        for shard in shards:
            split = _split_name(shard.relative_to(folder))
            splits.setdefault(split, _Split(split, staging)).add(shard)
        write_manifest(staging, _build_manifest(splits, {"path": str(folder), "shards": listed}))
    return out


def _list_shards(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.tar"), key=lambda shard: natural_key(shard.as_posix()))


def _split_name(shard: Path) -> str:
    """Return the split that folders or the words of the file's name tell; train where nothing does."""
    words = [*shard.parts[:-1], *re.split(r"[-_.\d]+", shard.stem)]
    return next((split for word in words if (split := split_of(word))), "train")


@dataclass
class _Split:
    """What is learned of one split while its shards are read."""

    name: str
    folder: Path
    shards: list[ShardInfo] = field(default_factory=list)
    subjects: set[str] = field(default_factory=set)
    greatest: dict[str, int] = field(default_factory=dict)
    sizes: dict[tuple[tuple[int, int], int], str] = field(default_factory=dict)
    tally: PixelTally | None = None
    samples: int = 0

    def add(self, shard: Path) -> None:
        index = build_index(shard)
        with open(shard, "rb") as file:
            samples = [self._read(shard, file.fileno(), sample) for sample in index["samples"]]
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        name = f"{self.name}/shard-{len(self.shards):06d}.tar"
        data = encode_index({**index, "samples": samples})
        link = self.folder / name
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(shard)
        index_path(link).write_bytes(data)
        size = shard.stat().st_size
        self.shards.append(ShardInfo(name, len(samples), size, digest, hashlib.sha256(data).hexdigest()))

    def _read(self, shard: Path, file: int, sample: dict[str, Any]) -> dict[str, Any]:
        """Return a sample's line of the index, with what its JSON or class says written into it."""
        where = f"{shard}, sample {sample['key']}"
        members = sample["members"]
        picture = next((members[name] for name in _PICTURES if name in members), None)
        if picture is None:
            raise DataError.of(where, ", ".join(members), f"a picture, {' or '.join(_PICTURES)}")
        payload = os.pread(file, picture[1], picture[0])
        size, channels = read_picture_size(payload, where)
        self.sizes.setdefault((size, channels), where)
        if self.samples < _TALLIED:
            self.tally = self.tally or PixelTally(channels)
            if len(self.sizes) == 1:
                self.tally.add(decode_png(payload, image_size=size, channels=channels, where=where))
        info = _read_info(file, members, where)
        self.samples += 1
        self.subjects.add(info["subject"] or f"{shard}:{sample['key']}")
        for name in ("slice", "label"):
            if info[name] is not None:
                self.greatest[name] = max(self.greatest.get(name, 0), info[name] + 1)
        return {"key": sample["key"], "subject": info["subject"], "members": {"png": picture}, "info": info}


def _read_info(file: int, members: dict[str, list[int]], where: str) -> dict[str, Any]:
    """Return subject, slice and label as JSON or class tell them; None for what they do not."""
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


def _build_manifest(splits: dict[str, _Split], source: dict[str, Any]) -> Manifest:
    sizes = {size: where for split in splits.values() for size, where in split.sizes.items()}
    if len(sizes) != 1:
        found = "; ".join(f"{size[0]} x {size[1]} x {channels} in {where}" for (size, channels), where in sizes.items())
        raise DataError.of(source["path"], found or "no samples", "pictures of one size: make shards of your own")
    ((image_size, channels),) = sizes
    greatest = {
        name: max((split.greatest.get(name, 0) for split in splits.values()), default=0) or None
        for name in ("slice", "label")
    }
    return Manifest(
        kind="images",
        image_size=image_size,
        channels=channels,
        splits={name: _split_info(splits[name]) for name in SPLITS if name in splits},
        source=source,
        num_slices=greatest["slice"],
        num_labels=greatest["label"],
    )


def _split_info(split: _Split) -> SplitInfo:
    mean, variance = split.tally.moments() if split.tally else (None, None)
    return SplitInfo(tuple(split.shards), split.samples, len(split.subjects), mean, variance)
