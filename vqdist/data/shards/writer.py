"""Writer of a dataset: plain WebDataset tars, an index beside each, and one manifest.

The dataset is written atomically. Writing the same samples again gives the same bytes.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from vqdist.config.attributes import Kind
from vqdist.data.shards.attribute_counts import AttributeCounts
from vqdist.data.shards.codecs import decode_png, encode_png
from vqdist.data.shards.index import build_index, encode_index, index_path
from vqdist.data.shards.manifest import SPLITS, Manifest, ShardInfo, SplitInfo, write_manifest
from vqdist.foundation.atomic_files import output_folder
from vqdist.foundation.errors import DataError
from vqdist.foundation.json_validation import AffineRows

PixelCounts = npt.NDArray[np.int64]  # (C, 256), of each value per channel


class ShardFile:
    """One shard that is being written, and its index, which `close` writes.

    Args:
        folder: folder of the dataset.
        name: path of the tar in it, for example train/shard-000000.tar.
    """

    def __init__(self, folder: Path, name: str) -> None:
        from webdataset import TarWriter

        self.samples = 0
        self._name = name
        self._path = folder / name
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(self._path, "wb")  # noqa: SIM115 (closed in abort)
        self._tar = TarWriter(self._file, encoder=False, mtime=0, user="", group="")

    def add(self, key: str, payload: bytes, extension: str, info: dict[str, Any]) -> None:
        """Append a sample: KEY.extension with the payload and KEY.json with the info."""
        assert key, "an empty key"
        assert "." not in key.rpartition("/")[2], f"{key}: WebDataset ends a key at its first dot"
        text = json.dumps(info, ensure_ascii=False).encode()
        self._tar.write({"__key__": key, extension: payload, "json": text})
        self.samples += 1

    def close(self) -> ShardInfo:
        """Finish the tar, write its index and return its entry in the manifest."""
        self.abort()
        index = encode_index(build_index(self._path))
        index_path(self._path).write_bytes(index)
        with open(self._path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = self._path.stat().st_size
        return ShardInfo(self._name, self.samples, size, digest, hashlib.sha256(index).hexdigest())

    def abort(self) -> None:
        """Close the file without writing an index."""
        self._tar.close()
        self._file.close()


def count_pixels(image: np.ndarray) -> PixelCounts:
    """Return the number of pixels of each value per channel of an image, (C, H, W) uint8."""
    return np.stack([np.bincount(channel.ravel(), minlength=256) for channel in image]).astype(np.int64, copy=False)


class PixelHistogram:
    """Histogram of 8-bit pixels per channel, from which mean and variance follow exactly."""

    def __init__(self, channels: int) -> None:
        self.counts = np.zeros((channels, 256), np.int64)

    def add(self, image: np.ndarray) -> None:
        """Count the pixels of an image, (C, H, W) uint8."""
        self.counts += count_pixels(image)

    def moments(self) -> tuple[tuple[float, ...], tuple[float, ...]] | tuple[None, None]:
        """Return mean and variance of the pixels in [0, 1] per channel; (None, None) without pixels."""
        total = self.counts.sum(axis=1)
        if not total.all():
            return None, None
        values = np.arange(256) / 255
        mean = self.counts @ values / total
        variance = (self.counts * (values - mean[:, None]) ** 2).sum(axis=1) / total
        return tuple(mean.tolist()), tuple(variance.tolist())


class _SplitWriter:
    """Writes the shards of one split, of which at most one is open."""

    def __init__(self, folder: Path, name: str, *, channels: int, samples_per_shard: int) -> None:
        self.pixels = PixelHistogram(channels)
        self._folder = folder
        self._name = name
        self._samples_per_shard = samples_per_shard
        self._shards: list[ShardInfo] = []
        self._open: ShardFile | None = None
        self._keys: set[str] = set()
        self._subjects: set[str] = set()

    def write(self, key: str, payload: bytes, extension: str, info: dict[str, Any]) -> None:
        if key in self._keys:  # possible in third-party shards
            raise DataError.of(f"{self._name}, sample {key}", "the key of another sample", "each key once")
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
        return SplitInfo(tuple(self._shards), len(self._keys), len(self._subjects), *self.pixels.moments())

    def abort(self) -> None:
        if self._open is not None:
            self._open.abort()


class ShardSetWriter:
    """Context manager that writes a dataset, which appears at `out` if the block raises nothing.

    Args:
        out: folder of the dataset; missing or empty unless overwrite is set.
        kind: "images" or "codes".
        image_size, channels: (H, W), and 1 or 3; for codes, of the images that were encoded.
        samples_per_shard: the last shard of a split may have fewer.
        source: origin of the data, for people to read.
        num_codes, grid, vqvae_fingerprint: for codes.
        class_names: name of each label.
        affine: from (row, column, slice number) to millimetres; see Manifest.
        attribute_kinds: kind of each entry of `attributes` in the JSON of the samples.

    Attributes:
        affine: may also be set before the block ends.
        folder: the temporary folder; other files of the dataset, such as vqvae/, may be added to it.
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
        affine: AffineRows | None = None,
        attribute_kinds: Mapping[str, Kind] | None = None,
    ) -> None:
        self.folder = Path()
        self.affine = affine
        self._out, self._overwrite = out, overwrite
        self._samples_per_shard = samples_per_shard
        self._description = Manifest(
            kind=kind,
            image_size=(image_size[0], image_size[1]),
            channels=channels,
            splits={},
            source=source or {},
            num_codes=num_codes,
            grid=grid,
            vqvae_fingerprint=vqvae_fingerprint,
            class_names=tuple(class_names),
        )
        self._splits: dict[str, _SplitWriter] = {}
        self._counts: Counter[str] = Counter()  # 1 + the greatest slice number and label
        self._conditions: Counter[tuple[int | None, int | None]] = Counter()
        self._attributes = AttributeCounts(attribute_kinds or {})

    @contextmanager
    def _writing(self) -> Iterator[Self]:
        with output_folder(self._out, overwrite=self._overwrite) as self.folder:
            try:
                yield self
                write_manifest(self.folder, self._build_manifest())
            finally:
                for split in self._splits.values():
                    split.abort()

    def __enter__(self) -> Self:
        self._context = self._writing()
        return self._context.__enter__()

    def __exit__(self, *error: Any) -> bool | None:
        return self._context.__exit__(*error)

    def write(self, split: str, key: str, payload: bytes, info: dict[str, Any]) -> None:
        """Append an encoded sample, a PNG or an .npy as `kind` requires.

        Args:
            key: unique in its split, without a dot.
            payload: the bytes; of a PNG the pixels are added to the split's mean and variance.
            info: JSON values: subject, slice, label, source, attributes.
        Raises:
            DataError: the key exists, or the payload is damaged.
        """
        manifest = self._description
        if manifest.kind == "images":
            image = decode_png(payload, image_size=manifest.image_size, channels=manifest.channels, where=key)
            self._split(split).pixels.add(image)
        self._append(split, key, payload, info)

    def write_image(self, split: str, key: str, image: np.ndarray, info: dict[str, Any]) -> None:
        """Encode and append a slice, (C, H, W) uint8; otherwise as `write`."""
        assert image.shape == self._description.values_shape, image.shape
        self.write_encoded(split, key, encode_png(image), count_pixels(image), info)

    def write_encoded(self, split: str, key: str, png: bytes, counts: PixelCounts, info: dict[str, Any]) -> None:
        """Append a slice that `encode_png` has encoded, with the counts of its pixels; otherwise as `write`."""
        self._split(split).pixels.counts += counts
        self._append(split, key, png, info)

    def _append(self, split: str, key: str, payload: bytes, info: dict[str, Any]) -> None:
        self._split(split).write(key, payload, self._description.extension, info)
        if split == "train":
            self._conditions[info.get("label"), info.get("slice")] += 1
            self._attributes.add(info)
        for name in ("slice", "label"):
            if info.get(name) is not None:
                self._counts[name] = max(self._counts[name], info[name] + 1)

    def _split(self, name: str) -> _SplitWriter:
        if name not in self._splits:
            channels = self._description.channels
            self._splits[name] = _SplitWriter(
                self.folder, name, channels=channels, samples_per_shard=self._samples_per_shard
            )
        return self._splits[name]

    def _build_manifest(self) -> Manifest:
        def by_number(row: tuple[int | None, int | None, int]) -> tuple[int, int]:
            return (-1 if row[0] is None else row[0], -1 if row[1] is None else row[1])

        names = sorted(self._splits, key=lambda name: (SPLITS.index(name) if name in SPLITS else len(SPLITS), name))
        conditions = ((label, number, count) for (label, number), count in self._conditions.items())
        attributes, rows = self._attributes.summarize()
        return replace(
            self._description,
            splits={name: self._splits[name].finish() for name in names},
            num_slices=self._counts["slice"] or None,
            num_labels=self._counts["label"] or None,
            conditions=tuple(sorted(conditions, key=by_number)),
            affine=self.affine,
            attributes=attributes,
            attribute_rows=rows,
        )
