"""Decoded samples in memory (data.cache: memory), shared by the ranks and loader workers of a node.

Whoever decodes a sample first keeps it for all. The files behind it lose their names as soon as every rank has
opened them, so that nothing is left of a run that was killed.
"""

import math
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vqdist.data.cache_dir import MEMORY_FOLDER, free_bytes
from vqdist.data.loading.batch import Array, SampleInfo
from vqdist.data.loading.shared_memory import SharedRows
from vqdist.data.order import Indexes
from vqdist.data.shards.manifest import Manifest
from vqdist.foundation.errors import DataError
from vqdist.foundation.progress import print_message

CACHED_SPLITS = ("train", "validate")  # what a run reads
_HEAD = struct.Struct("<qqH")  # label, slice, bytes of the key, which follows
_HEAD_BYTES = 256
_WHOLE = b"\1"


class SampleCache:
    """The decoded samples of one split, each there or not.

    A sample counts as there once its byte in `whole` is set, which is written after everything else: one that
    a killed process left half written is decoded again. Two processes that write one sample write the same.

    Args:
        path: of the files, but for their last extension; the same on all ranks of a node.
        samples: of the split.
        shape, dtype: of a sample's values.
    """

    def __init__(self, path: Path, samples: int, shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
        self._paths = [path.with_name(f"{path.name}.{part}") for part in ("whole", "heads", "values")]
        self._whole = SharedRows(samples, (), np.uint8, path=self._paths[0])
        self._heads = SharedRows(samples, (_HEAD_BYTES,), np.uint8, path=self._paths[1])
        self._values = SharedRows(samples, shape, dtype, path=self._paths[2])
        self._full = False

    def remove_names(self) -> None:
        """Unlink the files: their memory lives as long as a process has them open. Call once all ranks do."""
        for path in self._paths:
            path.unlink(missing_ok=True)

    def is_complete(self) -> bool:
        """Tell whether every sample is there."""
        return bool(self._whole.array.all())

    def take(self, indexes: Sequence[int] | Indexes, out: Array) -> list[SampleInfo] | None:
        """Copy samples to the first rows of `out` and tell their facts; None unless all of them are there."""
        chosen = np.asarray(indexes, dtype=np.int64)
        if not self._whole.array[chosen].all():
            return None
        self._whole.fence()
        np.take(self._values.array, chosen, axis=0, out=out[: len(chosen)], mode="clip")
        return [self._read_head(self._heads.array[index].tobytes()) for index in chosen]

    def put(self, index: int, values: Array, facts: SampleInfo) -> None:
        """Keep a sample, unless its key is too long or there is no room left, which is said once."""
        key = facts.key.encode()
        if self._full or _HEAD.size + len(key) > _HEAD_BYTES:
            return
        try:
            self._values.write(index, values)
            self._heads.write(index, _HEAD.pack(facts.label, facts.slice, len(key)) + key)
            self._whole.write(index, _WHOLE)
        except OSError as error:
            self._full = True
            print_message(
                f"data.cache: {error.strerror} for decoded samples; those not yet in memory are decoded each time"
            )

    @staticmethod
    def _read_head(head: bytes) -> SampleInfo:
        label, number, length = _HEAD.unpack_from(head)
        return SampleInfo(head[_HEAD.size : _HEAD.size + length].decode(), label, number)


def open_caches(manifest: Manifest, *, token: str, spare_folder: Path) -> dict[str, SampleCache]:
    """Open the cache of each split that a run reads, in memory or, where that is too small, in a folder.

    Every rank of a node opens the same files; call remove_names on all ranks when all have done so.

    Args:
        token: of this start of the run, the same on all ranks.
        spare_folder: where to go if memory has no room for the data set; the system keeps in memory what it can.
    Raises:
        DataError: no room in either.
    """
    shape, dtype = manifest.values_shape, manifest.values_dtype
    sizes = {name: manifest.splits[name].samples for name in CACHED_SPLITS if name in manifest.splits}
    needed = sum(sizes.values()) * (math.prod(shape) * np.dtype(dtype).itemsize + _HEAD_BYTES + 1)
    folder = _find_room(needed, spare_folder)
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"vqdist-{manifest.fingerprint[:12]}-{token[:16]}"
    return {name: SampleCache(folder / f"{stem}-{name}", count, shape, dtype) for name, count in sizes.items()}


def _find_room(needed: int, spare_folder: Path) -> Path:
    free = free_bytes(MEMORY_FOLDER) if MEMORY_FOLDER.is_dir() else 0
    if needed <= 0.9 * free:
        return MEMORY_FOLDER
    spare = free_bytes(spare_folder)
    found = f"{_gib(free)} free in {MEMORY_FOLDER}, {_gib(spare)} in {spare_folder}"
    if needed > 0.9 * spare:
        raise DataError.of("data.cache", found, f"room for {_gib(needed)} of decoded samples, or data.cache none")
    print_message(f"data.cache: {found}: decoded samples ({_gib(needed)}) go to the folder")
    return spare_folder


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"
