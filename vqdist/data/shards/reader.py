"""Verified random access to the samples of a data set: what is not as the manifest says is an error, never a gap."""

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
from vqdist.foundation.errors import DamagedDataError, DataError
from vqdist.foundation.json_validation import decode_json


class Gate(Protocol):
    """Says when a shard can be opened; `vqdist.data.remote.remote_dataset.ShardGate` is one."""

    def wait_for(self, name: str) -> None: ...


class ShardReader:
    """The samples of one split, by their number; samples count through the shards in the manifest's order.

    Indexes are read when their shard is first touched. At most max_open shards are held open and the
    indexes of about max_indexed samples in memory, whatever the size of the data set. A reader can be
    pickled and used after a fork, by one thread at a time.

    Args:
        root: folder of the data set.
        manifest: of it.
        split: one of manifest.splits.
        max_open: shards held open; where they may be evicted from a cache, each takes its room until it is closed.
        gate: asked before a shard is opened; None: all shards are there.

    Attributes:
        shard_sizes: (S,) int64, samples of each shard.
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
        if split not in manifest.splits:
            raise DataError.of(str(root), f"no split {split!r}", " or ".join(manifest.splits) or "a split")
        self.root = Path(root)
        self.split = split
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
        """Return the shard that holds a sample, and the sample's place in it; IndexError out of range."""
        if not 0 <= index < self._starts[-1]:
            raise IndexError(f"sample {index} of {self._starts[-1]}")
        shard = bisect_right(self._starts, index) - 1
        return shard, index - self._starts[shard]

    def key(self, index: int) -> str:
        """Return the key of a sample, from the index alone."""
        shard, place = self.locate(index)
        return self._index(shard).keys[place]

    def subject(self, index: int) -> str | None:
        """Return the subject of a sample, from the index alone; None where its maker named none."""
        shard, place = self.locate(index)
        return self._index(shard).subjects[place]

    def read(self, index: int) -> dict[str, Any]:
        """Return a sample as WebDataset would: `__key__`, `__shard__`, the payload's bytes, and `json` decoded.

        Raises:
            DamagedDataError: naming shard and sample, when a byte is not as it was written.
        """
        shard, place = self.locate(index)
        shard_index = self._index(shard)
        key = shard_index.keys[place]
        payload_at, payload_bytes, payload_crc, info_at, info_bytes, info_crc = shard_index.spans[
            6 * place : 6 * place + 6
        ]
        payload = self._read_member(shard, key, payload_at, payload_bytes, payload_crc)
        text = self._read_member(shard, key, info_at, info_bytes, info_crc)
        info = shard_index.infos[place] if shard_index.infos else self._parse_info(shard, key, text)
        self._check_info(shard, key, info)
        return {"__key__": key, "__shard__": self.shards[shard].name, self.extension: payload, "json": info}

    def _parse_info(self, shard: int, key: str, text: bytes) -> object:
        try:
            return decode_json(text)
        except (ValueError, RecursionError) as error:
            self._damaged(shard, key, f"no valid JSON ({str(error)[:200]})", "JSON as vqdist writes it")

    def describe(self, shard: int, key: str | None = None) -> str:
        """Return what to call a shard, or a sample of it, in an error."""
        path = str(self.root / self.shards[shard].name)
        return path if key is None else f"{path}, sample {key}"

    def _check_info(self, shard: int, key: str, info: object) -> None:
        if not isinstance(info, dict):
            self._damaged(shard, key, type(info).__name__, "a JSON object")
        for name, count in self._limits.items():
            value = info.get(name)
            if value is not None and (type(value) is not int or not 0 <= value < count):
                self._damaged(shard, key, f"{name} {str(value)[:80]!r}", f"null or 0 to {count - 1}")

    def _read_member(self, shard: int, key: str, offset: int, size: int, crc: int) -> bytes:
        """Read a member, and the tar header before it, which other readers of the shard go by."""
        try:
            data = os.pread(self._handle(shard, key), size + BLOCK, max(offset - BLOCK, 0))
        except OSError as error:
            self._damaged(shard, key, error.strerror or str(error), "a file that can be read")
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
            self._damaged(shard, key, f"{size} bytes", f"{self.shards[shard].bytes}, as the manifest says")
        self._handles[shard] = handle
        if len(self._handles) > self._max_open:
            os.close(self._handles.popitem(last=False)[1])
        return handle

    def _open(self, shard: int, path: Path) -> int:
        """Open a shard or its index; one that is still under way, or evicted between look and grasp, is waited for."""
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
            raise DamagedDataError.of(str(path), "another index", "the one that the manifest's sha256 names")
        return parse_index(data, info, extension=self.extension, where=str(path))

    def _damaged(self, shard: int, key: str, found: str, expected: str) -> NoReturn:
        raise DamagedDataError.of(self.describe(shard, key), found, expected)

    def close(self) -> None:
        """Close the shards that are open; the reader opens them again when it needs them."""
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
