"""What a run reads: the training steps from any step on, the whole of another split, the first samples."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from vqdist.config.schema import DataSection
from vqdist.data.loading.batch import (
    Batch,
    Cache,
    Request,
    Requests,
    SampleDataset,
    SplitRequests,
    TrainRequests,
    steps_of,
)
from vqdist.data.loading.workers import load_batches
from vqdist.data.order import Order
from vqdist.data.remote.remote_dataset import Fetcher
from vqdist.data.shards.codecs import decode_codes, decode_png
from vqdist.data.shards.manifest import Manifest
from vqdist.data.shards.reader import Gate, ShardReader

MOST_OPEN = 128  # shards of a split at a time


class SampleDecoder:
    """Turns a sample of a data set into the array that a model takes. A class, since workers must pickle it."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest

    def __call__(self, sample: dict[str, Any]) -> npt.NDArray[Any]:
        """Return uint8 (C, H, W) for images, int64 (h, w) for codes.

        Raises:
            DamagedDataError: the payload is not what the manifest says.
        """
        manifest, where = self.manifest, f"{sample['__shard__']}, sample {sample['__key__']}"
        if manifest.kind == "images":
            return decode_png(sample["png"], image_size=manifest.image_size, channels=manifest.channels, where=where)
        assert manifest.grid is not None
        assert manifest.num_codes is not None
        return decode_codes(sample["npy"], grid=manifest.grid, num_codes=manifest.num_codes, where=where)


class DataPipeline:
    """The samples of one rank.

    Args:
        root: folder of the data set.
        manifest: of it.
        settings: the run's data section.
        seed: the run's seed.
        rank, world_size: this process among its peers.
        timeout_s: a loader worker that gives nothing for so long is an error.
        pin_memory: stage batches in page-locked memory, for a GPU.
        caches: of the decoded samples of splits, shared by the ranks of a node.
        gate: of a remote data set, whose shards come into the folder while it is read.
        fetcher: that brings them, where this rank has it; it is told how far the run is.
    """

    def __init__(
        self,
        root: str,
        manifest: Manifest,
        settings: DataSection,
        *,
        seed: int,
        rank: int,
        world_size: int,
        timeout_s: float,
        pin_memory: bool = False,
        caches: Mapping[str, Cache] | None = None,
        gate: Gate | None = None,
        fetcher: Fetcher | None = None,
    ) -> None:
        self.manifest = manifest
        self.settings = settings
        self.rank, self.world_size = rank, world_size
        self._timeout_s = timeout_s
        self._pin_memory = pin_memory
        self._caches = caches or {}
        self._fetcher = fetcher
        # An evicted shard takes room as long as it is open.
        most_open = MOST_OPEN if gate is None else max(settings.window_shards, 2)
        self._readers = {
            name: ShardReader(root, manifest, name, max_open=most_open, gate=gate) for name in manifest.splits
        }
        self.order = Order(
            self._readers["train"].shard_sizes,
            kind=settings.order,
            window_shards=settings.window_shards,
            seed=seed,
        )

    def train_steps(self, step: int) -> Iterator[list[Batch]]:
        """Yield this rank's micro-batches of each step, without end.

        Args:
            step: optimizer updates so far; the first item belongs to step + 1.
        """
        requests = TrainRequests(
            self.order,
            global_batch_size=self.settings.global_batch_size,
            micro_batch_size=self.settings.micro_batch_size,
            rank=self.rank,
            world_size=self.world_size,
            step=step,
        )
        self._tell(step)
        for micro_batches in steps_of(self._load("train", requests)):
            self._tell(micro_batches[0].step - 1)
            yield micro_batches

    def _tell(self, steps: int) -> None:
        if self._fetcher is not None:
            self._fetcher.tell(steps * self.settings.global_batch_size)

    def close(self) -> None:
        """End what runs beside this process."""
        if self._fetcher is not None:
            self._fetcher.close()

    def split(self, name: str) -> Iterator[Batch]:
        """Yield this rank's share of a split, each sample once."""
        share = -(-self.settings.global_batch_size // self.world_size)
        size = min(self.settings.micro_batch_size or share, share)
        requests = SplitRequests(len(self._readers[name]), batch_size=size, rank=self.rank, world_size=self.world_size)
        return self._load(name, requests)

    def has_split(self, name: str) -> bool:
        return name in self._readers and len(self._readers[name]) > 0

    def first_samples(self, count: int, batch_size: int) -> Iterator[Batch]:
        """Yield the first samples of the run's order, the same whatever the rank."""
        positions = np.arange(min(count, self.order.num_samples), dtype=np.int64)
        for part in np.array_split(positions, max(1, -(-len(positions) // batch_size))):
            yield self._dataset("train").load(Request(0, part, self.order.samples(part), last=False))

    def examples(self, name: str, count: int) -> Batch:
        """Return samples spread evenly over a split, the same whatever the rank."""
        total = len(self._readers[name])
        chosen = np.unique(np.linspace(0, total - 1, min(count, total)).round().astype(np.int64))
        return self._dataset(name).load(Request(0, chosen, chosen, last=True))

    def _load(self, name: str, requests: Requests) -> Iterator[Batch]:
        return load_batches(
            self._dataset(name),
            requests,
            num_workers=self.settings.num_workers,
            timeout_s=self._timeout_s,
            pin_memory=self._pin_memory,
        )

    def _dataset(self, name: str) -> SampleDataset:
        return SampleDataset(
            self._readers[name],
            SampleDecoder(self.manifest),
            shape=self.manifest.values_shape,
            dtype=self.manifest.values_dtype,
            global_batch_size=self.settings.global_batch_size,
            skip_damaged=self.settings.on_error == "skip",
            cache=self._caches.get(name),
        )
