"""Verified random access to the samples of a dataset: a sample that differs from the manifest is an error."""

import hashlib
import os
import zlib
from bisect import bisect_right
from collections import OrderedDict
from pathlib import Path
from typing import Any, NoReturn, Protocol

import numpy as np

from vqdist.data.shards.index import BLOCK, ShardIndex, index_path, is_sound_header, max_index_bytes, parse_index
from vqdist.data.shards.manifest import Manifest
from vqdist.data.sources.file_names import parse_split
from vqdist.foundation.errors import DamagedDataError, DataError, list_examples
from vqdist.foundation.json_validation import decode_json
from vqdist.foundation.shown_values import show_type


class Gate(Protocol):
    """Waits until a shard can be opened; implemented by `vqdist.data.remote.remote_dataset.ShardGate`."""

    def wait_for(self, name: str) -> None: ...


def check_split(manifest: Manifest, split: str, *, where: str, flag: str | None = None) -> None:
    """Raise a DataError if a dataset does not have a split.

    Args:
        where: the dataset as the user knows it.
        flag: the option that chooses the split; None if there is none.
    """
    if split in manifest.splits:
        return
    expected = list_examples(manifest.splits, separator=" or ") or "a split"
    meant = parse_split(split)
    hint = f"; did you mean {meant}?" if meant in manifest.splits else ""
    if flag is not None and len(manifest.splits) == 1:
        hint = f": {flag} {expected}"
    raise DataError.of(where, f"no split {split!r}", expected + hint)


class ShardReader:
    """Reads the samples of one split by index. Indexes count through the shards in the manifest's order.

    The index of a shard is read when the shard is first used. At most max_open shards are open, and the indexes of
    about max_indexed samples in memory, whatever the size of the dataset. A reader can be pickled and used after a
    fork, by one thread at a time.

    Args:
        root: folder of the dataset.
        max_open: most shards to keep open. A shard that is evicted from a cache uses disk space until it is closed.
        max_indexed: most samples, about, whose index is kept in memory.
        gate: waits for a shard before it is opened; None: all shards are in the folder.

    Attributes:
        shard_sizes: (S,) int64, number of samples in each shard.
        extension: key of the payload in a sample, "png" or "npy".
    """

    def __init__(
        self,
        root: str | Path,
        manifest: Manifest,
        split: str,
        *,
        max_open: int = 128,
        max_indexed: int = 2**18,
        gate: Gate | None = None,
    ) -> None:
        check_split(manifest, split, where=str(root))
        self.root = Path(root)
        self.extension = manifest.extension
        self.shards = manifest.splits[split].shards
        self.shard_sizes = np.array([shard.samples for shard in self.shards], np.int64)
        self._starts = np.concatenate([[0], np.cumsum(self.shard_sizes)]).tolist()
        self._limits = {"slice": manifest.num_slices or 2**31, "label": manifest.num_labels or 2**31}
        self._max_open, self._max_indexed = max_open, max_indexed
        self._gate = gate
        self._forget()

    def _forget(self) -> None:
        self._handles: OrderedDict[int, int] = OrderedDict()
        self._indexes: OrderedDict[int, ShardIndex] = OrderedDict()
        self._indexed = 0

    def __len__(self) -> int:
        return self._starts[-1]

    def locate(self, index: int) -> tuple[int, int]:
        """Return the number of a sample's shard and the sample's index in it.

        Raises:
            IndexError: no such sample.
        """
        if not 0 <= index < self._starts[-1]:
            raise IndexError(f"sample {index} of {self._starts[-1]}")
        shard = bisect_right(self._starts, index) - 1
        return shard, index - self._starts[shard]

    def key(self, index: int) -> str:
        """Return the key of a sample; reads the index only."""
        shard, place = self.locate(index)
        return self._index(shard).keys[place]

    def subject(self, index: int) -> str | None:
        """Return the subject of a sample, None if it has none; reads the index only."""
        shard, place = self.locate(index)
        return self._index(shard).subjects[place]

    def read(self, index: int) -> dict[str, Any]:
        """Return a sample as WebDataset does: `__key__`, `__shard__`, the payload's bytes and the decoded `json`.

        Raises:
            DamagedDataError: the bytes differ from the index; names the shard and the sample.
        """
        shard, place = self.locate(index)
        shard_index = self._index(shard)
        key = shard_index.keys[place]
        payload = self._read_member(shard, key, *shard_index.spans[6 * place : 6 * place + 3])
        info = self._read_info(shard, place)
        return {"__key__": key, "__shard__": self.shards[shard].name, self.extension: payload, "json": info}

    def read_info(self, index: int) -> dict[str, Any]:
        """Return the decoded JSON of a sample; errors as in `read`."""
        return self._read_info(*self.locate(index))

    def _read_info(self, shard: int, place: int) -> dict[str, Any]:
        shard_index = self._index(shard)
        key = shard_index.keys[place]
        text = self._read_member(shard, key, *shard_index.spans[6 * place + 3 : 6 * place + 6])
        info = shard_index.infos[place] if shard_index.infos else self._parse_info(shard, key, text)
        return self._check_info(shard, key, info)

    def _parse_info(self, shard: int, key: str, text: bytes) -> object:
        try:
            return decode_json(text)
        except (ValueError, RecursionError) as error:
            self._damaged(shard, key, f"invalid JSON ({str(error)[:200]})", "JSON as vqdist writes it")

    def _check_info(self, shard: int, key: str, info: object) -> dict[str, Any]:
        if not isinstance(info, dict):
            self._damaged(shard, key, show_type(info), "a JSON object")
        for name, count in self._limits.items():
            value = info.get(name)
            if value is not None and (type(value) is not int or not 0 <= value < count):
                self._damaged(shard, key, f"{name} {str(value)[:80]!r}", f"null or 0 to {count - 1}")
        return info

    def _read_member(self, shard: int, key: str, offset: int, size: int, crc: int) -> bytes:
        """Read a member, and verify it and the tar header before it, which other readers of the shard depend on."""
        try:
            data = os.pread(self._handle(shard, key), size + BLOCK, max(offset - BLOCK, 0))
        except OSError as error:
            self._damaged(shard, key, error.strerror or str(error), "a readable file")
        header, data = data[:BLOCK], data[BLOCK:]
        if len(data) != size or zlib.crc32(data) != crc:
            self._damaged(shard, key, "bytes that do not match their checksum", "the bytes that were written")
        if not is_sound_header(header):
            self._damaged(shard, key, "a tar header that does not match its checksum", "the bytes that were written")
        return data

    def _handle(self, shard: int, key: str) -> int:
        if shard in self._handles:
            self._handles.move_to_end(shard)
            return self._handles[shard]
        handle = self._open(shard, self.root / self.shards[shard].name)
        size = os.fstat(handle).st_size
        if size != self.shards[shard].bytes:
            os.close(handle)
            self._damaged(shard, key, f"{size} bytes", f"{self.shards[shard].bytes}, as in the manifest")
        self._handles[shard] = handle
        if len(self._handles) > self._max_open:
            os.close(self._handles.popitem(last=False)[1])
        return handle

    def _open(self, shard: int, path: Path) -> int:
        """Open a shard or its index; wait for one that is being downloaded or was evicted after the last check."""
        while True:
            if self._gate is not None:
                self._gate.wait_for(self.shards[shard].name)
            try:
                return os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            except FileNotFoundError:
                if self._gate is None:
                    raise

    def _index(self, shard: int) -> ShardIndex:
        if shard in self._indexes:
            self._indexes.move_to_end(shard)
            return self._indexes[shard]
        index = self._load_index(shard)
        self._indexes[shard] = index
        self._indexed += len(index.keys)
        while self._indexed > self._max_indexed and len(self._indexes) > 1:
            self._indexed -= len(self._indexes.popitem(last=False)[1].keys)
        return index

    def _load_index(self, shard: int) -> ShardIndex:
        info = self.shards[shard]
        path = index_path(self.root / info.name)
        limit = max_index_bytes(info.samples)
        try:
            with open(self._open(shard, path), "rb") as file:
                data = file.read(limit + 1)
        except OSError as error:
            raise DamagedDataError.of(str(path), error.strerror or str(error), "the shard's index") from error
        if len(data) > limit:
            raise DamagedDataError.of(str(path), f"more than {limit} bytes", f"an index of {info.samples} samples")
        if info.index_sha256 not in (None, hashlib.sha256(data).hexdigest()):
            raise DamagedDataError.of(str(path), "another index", "the one that the manifest's sha256 identifies")
        return parse_index(data, info, extension=self.extension, where=str(path))

    def _damaged(self, shard: int, key: str, found: str, expected: str) -> NoReturn:
        path = self.root / self.shards[shard].name
        if path.is_symlink():  # an index of third-party shards
            expected += f"; if {os.readlink(path)} was replaced on purpose, delete {self.root} to index it again"
        raise DamagedDataError.of(f"{path}, sample {key}", found, expected)

    def close(self) -> None:
        """Close all open shards. Reading opens them again."""
        for handle in self._handles.values():
            os.close(handle)
        self._forget()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_handles", "_indexes")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    def __del__(self) -> None:
        if hasattr(self, "_handles"):
            self.close()
