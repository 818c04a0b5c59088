"""Third-party shards: WebDataset tars without a manifest, indexed once into the cache folder.

The index is a dataset of its own: a manifest, an index for each shard, and symbolic links to the tars. Damage that is
older than the index is noticed if it breaks a tar, a checksum of a PNG, or one of the pictures that are decoded for the
statistics.
"""

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vqdist.data.shards.codecs import decode_png
from vqdist.data.shards.findings import Findings
from vqdist.data.shards.index import INDEX_VERSION, encode_index, index_path
from vqdist.data.shards.manifest import MANIFEST, SPLITS, Manifest, ShardInfo, SplitInfo, load_manifest, write_manifest
from vqdist.data.shards.shard_indexer import FoundSample, IndexSettings, read_shard
from vqdist.data.shards.tar_members import clean_name
from vqdist.data.shards.uniform_pictures import UniformPictures
from vqdist.data.shards.writer import PixelHistogram
from vqdist.data.sources.file_names import parse_split
from vqdist.foundation.atomic_files import output_folder
from vqdist.foundation.errors import DataError, Problem
from vqdist.foundation.file_locks import lock_file
from vqdist.foundation.progress import ProgressBar

_INDEXER_VERSION = 2  # version 1 chose among several pictures and ignored labels without a message
_SAMPLES_OF_STATISTICS = 4096  # per split, for mean and variance of the pixels
_MAX_NAME_BYTES, _MAX_FOLDER_BYTES, _HASH_LENGTH = 80, 150, 8  # of a key, so that it fits into a tar header
_NO_SETTINGS = IndexSettings()


def index_third_party_shards(
    folder: Path,
    tars: Sequence[Path],
    cache_dir: Path,
    settings: IndexSettings = _NO_SETTINGS,
    *,
    is_selection: bool = False,
) -> Path:
    """Index third-party shards, unless it was done before, and return the folder of the index.

    Args:
        folder: folder of the shards.
        tars: as `find_shards` returns them; members are KEY.png or KEY.jpg, with KEY.json, KEY.cls or neither.
        cache_dir: where the index is kept. One process creates it; the others wait.
        is_selection: the tars were chosen, and have an index of their own; otherwise they are all of the folder.
    Raises:
        DataError: the shards differ from those that were indexed before, or have samples that cannot be used and are
            not skipped.
    """
    cache_dir.mkdir(parents=True, exist_ok=True)
    with open(cache_dir / ".lock", "ab") as lock:
        lock_file(lock)
        listed = [tar.relative_to(folder) for tar in tars]
        selected = listed if is_selection else []
        return _find_or_create_index(folder.resolve(), listed, cache_dir, settings, selected)


def read_notes(manifest: Manifest) -> list[str]:
    """Return what the indexer left out or did not understand, one line for each kind; empty for other datasets."""
    notes = manifest.source.get("notes")
    return [str(note) for note in notes] if isinstance(notes, list) else []


def read_settings(source: Any) -> IndexSettings:
    """Return the settings with which third-party shards were indexed, from the `source` of their manifest."""
    values = source.get("index") if isinstance(source, dict) else None
    values = values if isinstance(values, dict) else {}
    image_key = values.get("image_key")
    return IndexSettings(image_key if isinstance(image_key, str) else None, values.get("skip_unusable") is True)


def _find_or_create_index(
    folder: Path, tars: list[Path], cache_dir: Path, settings: IndexSettings, selected: list[Path]
) -> Path:
    listed = [os.fsencode(tar).decode("utf-8", "backslashreplace") for tar in tars]
    out = _index_folder(folder, cache_dir, settings, selected)
    if settings.skip_unusable and not (out / MANIFEST).exists():
        without_faults = _index_folder(folder, cache_dir, IndexSettings(settings.image_key), selected)
        out = without_faults if (without_faults / MANIFEST).exists() else out
    if (out / MANIFEST).exists():
        if load_manifest(out).source.get("shards") != listed:
            expected = f"the same shards; delete {out} to index them again"
            raise DataError.of(str(folder), "other shards than were indexed before", expected)
        return out
    with output_folder(out) as temporary:
        path = os.fsencode(folder).decode("utf-8", "backslashreplace")
        builder = _IndexBuilder(folder, temporary, settings, Findings(str(folder)))
        with ProgressBar(len(tars), unit="shards", label="index") as shown:
            for tar in tars:
                builder.add(tar)
                shown.advance()
        source = {
            "path": path,
            "shards": listed,
            "index": {"image_key": settings.image_key, "skip_unusable": settings.skip_unusable},
        }
        write_manifest(temporary, builder.build_manifest(source))
    return out


def _index_folder(folder: Path, cache_dir: Path, settings: IndexSettings, selected: list[Path]) -> Path:
    """Return where the index of a folder, or of selected tars of it, with these settings is kept."""
    parts: tuple[object, ...] = (_INDEXER_VERSION, settings.extensions, settings.skip_unusable)
    parts += tuple(map(os.fsencode, selected))
    return cache_dir / f"shards-{hashlib.sha256(os.fsencode(folder) + repr(parts).encode()).hexdigest()[:16]}"


def find_split(tar: Path) -> str | None:
    """Return the split in the names of a tar's folders or in the words of its own name."""
    words = [*tar.parts[:-1], *re.split(r"[-_.\d]+", tar.stem)]
    return next((split for word in words if (split := parse_split(word))), None)


@dataclass
class _IndexBuilder:
    """Indexes one tar after the other and builds the manifest."""

    folder: Path
    out: Path
    settings: IndexSettings
    findings: Findings
    splits: dict[str, "_SplitIndex"] = field(default_factory=dict)
    pictures: UniformPictures = field(default_factory=UniformPictures)
    first: FoundSample | None = None
    is_choice: bool = False

    def add(self, tar: Path) -> None:
        """Index a tar.

        Args:
            tar: path inside the folder of the shards.
        Raises:
            DataError: something in it cannot be used and is not skipped.
        """
        path, split = self.folder / tar, find_split(tar)
        if split is None:
            self.findings.note("no split", str(tar))
        split_index = self.splits.get(split or "train") or _SplitIndex(split or "train", self.out)
        try:
            samples = self._select(read_shard(path, self.settings, self.findings))
            digest, entries = split_index.describe(path, tar, samples, self.findings)
        except OSError as error:
            self.findings.leave_out(Problem(str(path), error.strerror or str(error), "a shard that can be read"))
        else:
            self.splits[split_index.name] = split_index
            split_index.write(path, digest, entries)
        if not self.settings.skip_unusable:
            self.findings.raise_problems()

    def _select(self, samples: list[FoundSample]) -> list[FoundSample]:
        """Return the samples of a shard that can be used together with those of earlier shards."""
        if self.settings.skip_unusable:
            samples = self.pictures.select(samples, self.findings)
        else:
            self.findings.raise_problems()
            self.pictures.check(samples, str(self.folder))
        self.first = self.first or next(iter(samples), None)
        self.is_choice |= any(sample.is_choice for sample in samples)
        return samples

    def build_manifest(self, source: dict[str, Any]) -> Manifest:
        """Return the manifest of all tars that were added."""
        splits = {name: self.splits[name] for name in SPLITS if name in self.splits and self.splits[name].shards}
        if self.first is None or not any(split.samples for split in splits.values()):
            self.findings.raise_problems()
            found = "; ".join(["no samples", *self.findings.describe()])
            raise DataError.of(source["path"], found, "shards of pictures, KEY.png or KEY.jpg")
        self._note_subjects_in_several_splits(list(splits.values()))
        counts = {name: max(split.counts.get(name, 0) for split in splits.values()) for name in ("slice", "label")}
        return Manifest(
            kind="images",
            image_size=self.first.size,
            channels=self.first.channels,
            splits={name: split.to_info() for name, split in splits.items()},
            source={**source, "unusable": self.findings.num_unusable, "notes": self.findings.describe()},
            num_slices=counts["slice"] or None,
            num_labels=counts["label"] or None,
            image_key=";".join(self.settings.extensions) if self.is_choice else None,
        )

    def _note_subjects_in_several_splits(self, splits: list["_SplitIndex"]) -> None:
        for number, split in enumerate(splits):
            for other in splits[:number]:
                for subject in sorted(split.subjects & other.subjects):
                    self.findings.note("two splits", f"{subject[:80]} in {other.name} and {split.name}")


@dataclass
class _SplitIndex:
    """The indexes of the shards of one split, and the statistics of its samples."""

    name: str
    folder: Path
    shards: list[ShardInfo] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    subjects: set[str] = field(default_factory=set)
    counts: dict[str, int] = field(default_factory=dict)  # 1 + the greatest slice number and label
    pixels: PixelHistogram | None = None

    @property
    def samples(self) -> int:
        return len(self.keys)

    def describe(
        self, path: Path, tar: Path, samples: list[FoundSample], findings: Findings
    ) -> tuple[str, list[dict[str, Any]]]:
        """Return the sha256 of a shard and the entries of its samples in the index.

        Args:
            path, tar: the shard, and its path inside the folder of the shards.
            samples: all of one size.
        Raises:
            OSError: the shard cannot be read.
        """
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            entries = [
                self._describe(sample, tar, findings)
                for sample in samples
                if self._count_pixels(file.fileno(), sample, findings)
            ]
        if not entries:
            findings.note("no sample", str(tar))
        return digest, entries

    def write(self, path: Path, digest: str, entries: list[dict[str, Any]]) -> None:
        """Write the index of a shard and, next to it, a link to the shard."""
        name = f"{self.name}/shard-{len(self.shards):06d}.tar"
        data = encode_index({"format_version": INDEX_VERSION, "shard": path.name, "samples": entries})
        link = self.folder / name
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(path)
        index_path(link).write_bytes(data)
        size = path.stat().st_size
        self.shards.append(ShardInfo(name, len(entries), size, digest, hashlib.sha256(data).hexdigest()))

    def _count_pixels(self, file: int, sample: FoundSample, findings: Findings) -> bool:
        """Add the pixels of one of the first samples to the statistics; False if its picture is damaged."""
        if self.samples >= _SAMPLES_OF_STATISTICS:
            return True
        offset, size, _ = sample.span
        payload, channels = os.pread(file, size, offset), sample.channels
        try:
            image = decode_png(payload, image_size=sample.size, channels=channels, where=sample.where)
        except DataError as error:
            findings.leave_out(error.problems[0])
            return False
        self.pixels = self.pixels or PixelHistogram(channels)
        self.pixels.add(image)
        return True

    def _describe(self, sample: FoundSample, tar: Path, findings: Findings) -> dict[str, Any]:
        """Return the entry of a sample in the index."""
        key, info = self._choose_key(sample.key, tar, findings), sample.info
        self.keys.add(key)
        self.subjects.add(info["subject"] or f"{tar}:{key}")
        for name in ("slice", "label"):
            if info[name] is not None:
                self.counts[name] = max(self.counts.get(name, 0), info[name] + 1)
        return {"key": key, "subject": info["subject"], "members": {"png": list(sample.span)}, "info": info}

    def _choose_key(self, key: str, tar: Path, findings: Findings) -> str:
        """Return a key that no other sample of the split has, and that fits into a tar header."""
        if key in self.keys:
            findings.note("same key", f"{key[:80]} in {tar}")
            key = f"{clean_name(str(tar.with_suffix('')))}/{key}"
        shortened = shorten_key(key)
        if shortened != key:
            findings.note("shorter key", f"{key[:40]}... in {tar}")
        return shortened

    def to_info(self) -> SplitInfo:
        mean, variance = self.pixels.moments() if self.pixels else (None, None)
        return SplitInfo(tuple(self.shards), self.samples, len(self.subjects), mean, variance)


def shorten_key(key: str) -> str:
    """Return a key unchanged if a tar of encoded views can hold it, else shortened, with a hash of all of it."""
    folder, slash, name = key.rpartition("/")
    encoded = name.encode()
    if len(encoded) <= _MAX_NAME_BYTES and len(folder.encode()) <= _MAX_FOLDER_BYTES:
        return key
    kept = encoded[: _MAX_NAME_BYTES - _HASH_LENGTH - 1].decode(errors="ignore")
    digest = hashlib.sha256(key.encode()).hexdigest()[:_HASH_LENGTH]
    return f"{folder + slash if len(folder.encode()) <= _MAX_FOLDER_BYTES else ''}{kept}-{digest}"
