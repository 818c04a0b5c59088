"""Decoded samples in memory (data.cache: memory), shared by the ranks and loader workers of a node.

The first process that decodes a sample stores it for all others. The files are unlinked as soon as every rank has
opened them, so a killed run leaves nothing behind.
"""

import math
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vqdist.data.augmentation import Change
from vqdist.data.cache_dir import MEMORY_FOLDER, free_bytes
from vqdist.data.loading.batch import SampleInfo
from vqdist.data.loading.shared_memory import Array, SharedRows
from vqdist.data.order import Indexes
from vqdist.data.shards.manifest import Manifest
from vqdist.foundation.errors import DataError
from vqdist.foundation.progress import print_message

CACHED_SPLITS = ("train", "validate")  # the splits that training reads
_HEAD = struct.Struct("<qqHH")  # label, slice, number of attributes and of bytes of the key, which follow
_HEAD_BYTES = 256
_COMPLETE = b"\1"


class SampleCache:
    """The decoded samples of one split.

    The `complete` byte of a sample is set after everything else is written, so a sample that a killed process left
    half written is decoded again. Processes that write the same sample at the same time write the same bytes.

    Args:
        path: path of the files without their last extension, the same on all ranks of a node.
        samples: number of samples in the split.
        shape, dtype: shape and type of a decoded sample.
    """

    def __init__(self, path: Path, samples: int, shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
        self._paths = [path.with_name(f"{path.name}.{part}") for part in ("complete", "heads", "values")]
        self._complete = SharedRows(samples, (), np.uint8, path=self._paths[0])
        self._heads = SharedRows(samples, (_HEAD_BYTES,), np.uint8, path=self._paths[1])
        self._values = SharedRows(samples, shape, dtype, path=self._paths[2])
        self._full = False

    def unlink(self) -> None:
        """Unlink the files, once all ranks have opened them. The memory lives as long as a process has them open."""
        for path in self._paths:
            path.unlink(missing_ok=True)

    def is_complete(self) -> bool:
        """Whether every sample is cached."""
        return bool(self._complete.array.all())

    def take(
        self, indexes: Sequence[int] | Indexes, out: Array, changes: Sequence[Change] | None = None
    ) -> list[SampleInfo] | None:
        """Copy samples to the first rows of `out` and return their infos; None unless all of them are cached.

        Args:
            changes: the augmentation of each sample; None: copy the samples as they are.
        """
        chosen = np.asarray(indexes, dtype=np.int64)
        if not self._complete.array[chosen].all():
            return None
        self._complete.fence()
        if changes is None:
            np.take(self._values.array, chosen, axis=0, out=out[: len(chosen)], mode="clip")
        else:
            for row, index, change in zip(out[: len(chosen)], chosen, changes, strict=True):
                row[...] = change.apply(self._values.array[index])
        return [self._read_head(self._heads.array[index].tobytes()) for index in chosen]

    def put(self, index: int, values: Array, info: SampleInfo) -> None:
        """Cache a sample, unless its key is too long or the memory is full, which is logged once."""
        key, attributes = info.key.encode(), _pack_attributes(info.attributes)
        head = _HEAD.pack(info.label, info.slice, len(info.attributes), len(key)) + attributes + key
        if self._full or len(head) > _HEAD_BYTES:
            return
        try:
            self._values.write(index, values)
            self._heads.write(index, head)
            self._complete.write(index, _COMPLETE)
        except OSError as error:
            self._full = True
            print_message(
                f"data.cache: {error.strerror} for decoded samples; samples not yet cached are decoded every time"
            )

    @staticmethod
    def _read_head(head: bytes) -> SampleInfo:
        label, number, count, length = _HEAD.unpack_from(head)
        attributes = struct.unpack_from(f"<{count}d", head, _HEAD.size)
        start = _HEAD.size + 8 * count
        return SampleInfo(head[start : start + length].decode(), label, number, attributes)


def _pack_attributes(values: Sequence[float]) -> bytes:
    return struct.pack(f"<{len(values)}d", *values)


def open_caches(manifest: Manifest, *, token: str, fallback_folder: Path) -> dict[str, SampleCache]:
    """Open the cache of each split that training reads, in memory or, if that is too small, in a folder.

    Every rank of a node opens the same files. Call `unlink` once all ranks have opened them.

    Args:
        token: token of this attempt of the run, the same on all ranks.
        fallback_folder: folder for a dataset that does not fit into memory; the system caches what it can of it.
    Raises:
        DataError: too little free space in both.
    """
    shape, dtype = manifest.values_shape, manifest.values_dtype
    sizes = {name: manifest.splits[name].samples for name in CACHED_SPLITS if name in manifest.splits}
    needed = sum(sizes.values()) * (math.prod(shape) * np.dtype(dtype).itemsize + _HEAD_BYTES + 1)
    folder = _choose_folder(needed, fallback_folder)
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"vqdist-{manifest.fingerprint[:12]}-{token[:16]}"
    return {name: SampleCache(folder / f"{stem}-{name}", count, shape, dtype) for name, count in sizes.items()}


def _choose_folder(needed: int, fallback_folder: Path) -> Path:
    free = free_bytes(MEMORY_FOLDER) if MEMORY_FOLDER.is_dir() else 0
    if needed <= 0.9 * free:
        return MEMORY_FOLDER
    fallback_free = free_bytes(fallback_folder)
    found = f"{_gib(free)} free in {MEMORY_FOLDER}, {_gib(fallback_free)} in {fallback_folder}"
    if needed > 0.9 * fallback_free:
        raise DataError.of("data.cache", found, f"{_gib(needed)} for decoded samples, or data.cache none")
    print_message(f"data.cache: {found}: decoded samples ({_gib(needed)}) go to the folder")
    return fallback_folder


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"
