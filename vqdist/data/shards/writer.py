"""Shards of a data set: the writer. Plain WebDataset tars, each with an index beside it, and one manifest.

A data set appears whole or not at all. The same samples written again give the same bytes.
"""

import hashlib
import json
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from vqdist.data.shards.codecs import decode_png, encode_codes, encode_png
from vqdist.data.shards.index import build_index, encode_index, index_path
from vqdist.data.shards.manifest import MANIFEST, SPLITS, Manifest, ShardInfo, SplitInfo, load_manifest
from vqdist.data.shards.reader import ShardReader
from vqdist.foundation.atomic_files import output_folder
from vqdist.foundation.errors import DataError

__all__ = [
    "MANIFEST",
    "Manifest",
    "ShardFile",
    "ShardInfo",
    "ShardReader",
    "ShardSetWriter",
    "SplitInfo",
    "load_manifest",
    "write_manifest",
]


class ShardFile:
    """One shard being written: a tar, and on close() the index beside it.

    Args:
        folder: of the data set.
        name: path of the tar inside it, for example train/shard-000000.tar.
    """

    def __init__(self, folder: Path, name: str) -> None:
        from webdataset import TarWriter

        self.samples = 0
        self._name = name
        self._path = folder / name
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(self._path, "wb")  # noqa: SIM115 (closed in close)
        self._tar = TarWriter(self._file, encoder=False, mtime=0, user="", group="")

    def add(self, key: str, payload: bytes, extension: str, info: dict[str, Any]) -> None:
        """Append a sample: KEY.extension with the payload and KEY.json with the info."""
        assert key, "an empty key"
        assert "." not in key.rpartition("/")[2], f"{key}: WebDataset ends a key at its first dot"
        text = json.dumps(info, ensure_ascii=False).encode()
        self._tar.write({"__key__": key, extension: payload, "json": text})
        self.samples += 1

    def close(self) -> ShardInfo:
        """Finish the tar, read it back, write its index and return its line of the manifest."""
        self.abort()
        index = encode_index(build_index(self._path))
        index_path(self._path).write_bytes(index)
        with open(self._path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = self._path.stat().st_size
        return ShardInfo(self._name, self.samples, size, digest, hashlib.sha256(index).hexdigest())

    def abort(self) -> None:
        """Close the file as it is."""
        self._tar.close()
        self._file.close()


class PixelTally:
    """Exact running mean and variance of 8-bit pixels, from their histogram per channel."""

    def __init__(self, channels: int) -> None:
        self.histogram = np.zeros((channels, 256), np.int64)

    def add(self, image: np.ndarray) -> None:
        """Count the pixels of an image, (C, H, W) uint8."""
        for counts, channel in zip(self.histogram, image, strict=True):
            counts += np.bincount(channel.ravel(), minlength=256)

    def moments(self) -> tuple[tuple[float, ...], tuple[float, ...]] | tuple[None, None]:
        """Return mean and variance of the pixels in [0, 1] for each channel; None twice without a pixel."""
        total = self.histogram.sum(axis=1)
        if not total.all():
            return None, None
        values = np.arange(256) / 255
        mean = self.histogram @ values / total
        variance = (self.histogram * (values - mean[:, None]) ** 2).sum(axis=1) / total
        return tuple(mean.tolist()), tuple(variance.tolist())


class _SplitWriter:
    """The shards of one split: at most one of them open."""

    def __init__(self, folder: Path, name: str, *, channels: int, samples_per_shard: int) -> None:
        self.tally = PixelTally(channels)
        self._folder = folder
        self._name = name
        self._samples_per_shard = samples_per_shard
        self._shards: list[ShardInfo] = []
        self._open: ShardFile | None = None
        self._keys: set[str] = set()
        self._subjects: set[str] = set()

    def write(self, key: str, payload: bytes, extension: str, info: dict[str, Any]) -> None:
        if key in self._keys:  # in the shards that somebody else made
            raise DataError.of(f"{self._name}, sample {key}", "a key that another sample has", "one of its own")
        self._keys.add(key)
        self._subjects.add(info.get("subject") or key)
        if self._open is None:
            self._open = ShardFile(self._folder, f"{self._name}/shard-{len(self._shards):06d}.tar")
        self._open.add(key, payload, extension, info)
        if self._open.samples == self._samples_per_shard:
            self._close_shard()

    def _close_shard(self) -> None:
        if self._open is not None:
            self._shards.append(self._open.close())
            self._open = None

    def finish(self) -> SplitInfo:
        self._close_shard()
        mean, variance = self.tally.moments()
        return SplitInfo(tuple(self._shards), len(self._keys), len(self._subjects), mean, variance)

    def abort(self) -> None:
        if self._open is not None:
            self._open.abort()


class ShardSetWriter:
    """Writes a data set; a context manager, and the data set is there once the block has ended well.

    Args:
        out: its folder, missing or empty unless overwrite is set.
        kind: "images" or "codes".
        image_size: (H, W); channels: 1 or 3; of codes, those of the images behind them.
        samples_per_shard: the last shard of a split may hold fewer.
        source: free text for people, kept in the manifest.
        num_codes, grid, vqvae_fingerprint: of a set of codes.

    Attributes:
        folder: the temporary folder, where more files of the data set (a vqvae/) may be put.
    """

    def __init__(
        self,
        out: str | Path,
        *,
        kind: str,
        image_size: tuple[int, int],
        channels: int,
        samples_per_shard: int = 256,
        overwrite: bool = False,
        source: dict[str, Any] | None = None,
        num_codes: int | None = None,
        grid: tuple[int, int] | None = None,
        vqvae_fingerprint: str | None = None,
        class_names: tuple[str, ...] = (),
    ) -> None:
        self.folder = Path()
        self._out, self._overwrite = out, overwrite
        self._samples_per_shard = samples_per_shard
        self._extension = "png" if kind == "images" else "npy"
        self._facts: dict[str, Any] = {
            "kind": kind,
            "image_size": tuple(image_size),
            "channels": channels,
            "source": source or {},
            "num_codes": num_codes,
            "grid": grid,
            "vqvae_fingerprint": vqvae_fingerprint,
            "class_names": tuple(class_names),
        }
        self._splits: dict[str, _SplitWriter] = {}
        self._greatest: dict[str, int] = {}
        self._conditions: Counter[tuple[int | None, int | None]] = Counter()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self.folder = self._stack.enter_context(output_folder(self._out, overwrite=self._overwrite))
        self._stack.push(self._finish)
        return self

    def write(self, split: str, key: str, payload: bytes, extension: str, info: dict[str, Any]) -> None:
        """Append an encoded sample; the pixels of a "png" are counted into the split's mean and variance.

        Args:
            key: unique in its split, without a dot.
            info: JSON values: subject, slice, label, source.
        """
        if extension == "png":
            size, channels = self._facts["image_size"], self._facts["channels"]
            self._split(split).tally.add(decode_png(payload, image_size=size, channels=channels, where=key))
        self._append(split, key, payload, extension, info)

    def write_image(self, split: str, key: str, image: np.ndarray, info: dict[str, Any]) -> None:
        """Append a slice, (C, H, W) uint8."""
        assert image.shape == (self._facts["channels"], *self._facts["image_size"]), image.shape
        self._split(split).tally.add(image)
        self._append(split, key, encode_png(image), "png", info)

    def write_codes(self, split: str, key: str, codes: np.ndarray, info: dict[str, Any]) -> None:
        """Append a map of codes, (h, w) integers in [0, num_codes)."""
        assert codes.shape == tuple(self._facts["grid"]), codes.shape
        self._append(split, key, encode_codes(codes, self._facts["num_codes"]), "npy", info)

    def _append(self, split: str, key: str, payload: bytes, extension: str, info: dict[str, Any]) -> None:
        assert extension == self._extension, extension
        self._split(split).write(key, payload, extension, info)
        if split == "train":
            self._conditions[info.get("label"), info.get("slice")] += 1
        for name in ("slice", "label"):
            if info.get(name) is not None:
                self._greatest[name] = max(self._greatest.get(name, 0), info[name] + 1)

    def _split(self, name: str) -> _SplitWriter:
        if name not in self._splits:
            self._splits[name] = _SplitWriter(
                self.folder,
                name,
                channels=self._facts["channels"],
                samples_per_shard=self._samples_per_shard,
            )
        return self._splits[name]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def _finish(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                write_manifest(self.folder, self._build_manifest())
        finally:
            for split in self._splits.values():
                split.abort()

    def _build_manifest(self) -> Manifest:
        order = {name: place for place, name in enumerate(SPLITS)}
        names = sorted(self._splits, key=lambda name: (order.get(name, len(order)), name))
        splits = {name: self._splits[name].finish() for name in names}
        return Manifest(
            splits=splits,
            num_slices=self._greatest.get("slice"),
            num_labels=self._greatest.get("label"),
            conditions=self._list_conditions(),
            **self._facts,
        )

    def _list_conditions(self) -> tuple[tuple[int | None, int | None, int], ...]:
        def by_number(row: tuple[int | None, int | None, int]) -> tuple[int, int]:
            return (-1 if row[0] is None else row[0], -1 if row[1] is None else row[1])

        return tuple(
            sorted(((label, number, count) for (label, number), count in self._conditions.items()), key=by_number)
        )


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write dataset.json into the folder of a data set; the last step of making one."""
    text = json.dumps(manifest.to_json(), indent=1, ensure_ascii=False, allow_nan=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
