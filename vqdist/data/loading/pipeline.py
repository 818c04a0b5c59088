"""The data pipeline of one rank: training steps from any step on, a whole split, or chosen samples."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from vqdist.config.schema import DataSection
from vqdist.data.augmentation import Augmentation
from vqdist.data.loading.batch import Batch
from vqdist.data.loading.micro_batch_loader import MicroBatchLoader
from vqdist.data.loading.plan import MicroBatchPlan, Plan, SplitPlan, TrainPlan
from vqdist.data.loading.sample_cache import SampleCache
from vqdist.data.loading.shared_memory import Array
from vqdist.data.loading.workers import load_batches
from vqdist.data.order import Indexes, Order
from vqdist.data.previous_noise import PreviousNoise
from vqdist.data.previous_slices import NO_PREVIOUS, explain_no_previous, find_previous_samples, list_slice_names
from vqdist.data.remote.remote_dataset import Prefetcher
from vqdist.data.shards.codecs import decode_codes, decode_png
from vqdist.data.shards.manifest import Manifest
from vqdist.data.shards.reader import Gate, ShardReader
from vqdist.foundation.errors import DataError
from vqdist.foundation.progress import print_message

MAX_OPEN_SHARDS = 128  # per split


class SampleDecoder:
    """Decodes the samples of a dataset. A class, because loader workers pickle it."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest

    def __call__(self, sample: dict[str, Any]) -> Array:
        """Return a (C, H, W) uint8 image or an (h, w) int64 map of codes.

        Args:
            sample: as `ShardReader.read` returns it.
        Raises:
            DamagedDataError: the payload differs from what the manifest describes.
        """
        manifest, where = self.manifest, f"{sample['__shard__']}, sample {sample['__key__']}"
        if manifest.kind == "images":
            return decode_png(sample["png"], image_size=manifest.image_size, channels=manifest.channels, where=where)
        assert manifest.grid is not None
        assert manifest.num_codes is not None
        return decode_codes(sample["npy"], grid=manifest.grid, num_codes=manifest.num_codes, where=where)


class DataPipeline:
    """Reads, decodes and batches the samples of one rank.

    The loader splits the samples over the ranks. Do not give it to `accelerator.prepare`, which would split them
    again. The number of workers changes the speed only, because the content of a batch depends only on its step.

    Args:
        root: folder of the dataset.
        settings: data section of the configuration.
        rank, world_size: this process and the number of processes.
        timeout_s: seconds without a batch after which a loader worker counts as hanging.
        pin_memory: put batches into page-locked memory, for a GPU.
        caches: caches of decoded samples by split, shared by the ranks of a node.
        gate: for a remote dataset, waits until a shard is in `root`.
        prefetcher: for a remote dataset, the process that downloads shards, on one rank of each node.
        reads_previous: load each map together with that of the previous slice.
        previous_noise: changes of the previous maps in training.
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
        caches: Mapping[str, SampleCache] | None = None,
        gate: Gate | None = None,
        prefetcher: Prefetcher | None = None,
        reads_previous: bool = False,
        previous_noise: PreviousNoise | None = None,
    ) -> None:
        self.root = root
        self.manifest = manifest
        self.settings = settings
        self.rank, self.world_size = rank, world_size
        self._timeout_s = timeout_s
        self._pin_memory = pin_memory
        self._caches = caches or {}
        self._prefetcher = prefetcher
        self._reads_previous, self._previous_noise = reads_previous, previous_noise
        self._previous: dict[str, Indexes] = {}
        self._augmentation = Augmentation.from_settings(settings, seed=seed)
        # The disk space of an evicted shard is freed only when the shard is closed.
        max_open = MAX_OPEN_SHARDS if gate is None else max(settings.window_shards, 2)
        self._readers = {
            name: ShardReader(root, manifest, name, max_open=max_open, gate=gate) for name in manifest.splits
        }
        self.order = Order(
            self._readers["train"].shard_sizes,
            kind=settings.order,
            window_shards=settings.window_shards,
            seed=seed,
        )

    def train_steps(self, step: int) -> Iterator[list[Batch]]:
        """Yield this rank's micro-batches of each step, augmented and without end.

        Args:
            step: optimizer updates so far; the first item belongs to step + 1.
        """
        plan = TrainPlan(
            self.order,
            global_batch_size=self.settings.global_batch_size,
            micro_batch_size=self.settings.micro_batch_size,
            rank=self.rank,
            world_size=self.world_size,
            step=step,
        )
        self._report_progress(step)
        micro_batches: list[Batch] = []
        for batch in self._load("train", plan, training=True):
            micro_batches.append(batch)
            if batch.last:
                self._report_progress(batch.step - 1)
                yield micro_batches
                micro_batches = []

    def _report_progress(self, steps: int) -> None:
        if self._prefetcher is not None:
            self._prefetcher.report_position(steps * self.settings.global_batch_size)

    def close(self) -> None:
        """End the prefetch process, if this rank has one."""
        if self._prefetcher is not None:
            self._prefetcher.close()

    def split(self, name: str) -> Iterator[Batch]:
        """Yield this rank's share of a split, each sample once."""
        share = -(-self.settings.global_batch_size // self.world_size)
        size = min(self.settings.micro_batch_size or share, share)
        plan = SplitPlan(len(self._readers[name]), batch_size=size, rank=self.rank, world_size=self.world_size)
        return self._load(name, plan)

    def has_split(self, name: str) -> bool:
        """Whether the dataset has a split with at least one sample."""
        return name in self._readers and len(self._readers[name]) > 0

    def first_samples(self, count: int, batch_size: int) -> Iterator[Batch]:
        """Yield the first samples of the training order, the same on every rank."""
        positions = np.arange(min(count, self.order.num_samples), dtype=np.int64)
        for part in np.array_split(positions, max(1, -(-len(positions) // batch_size))):
            yield self._dataset("train").load(MicroBatchPlan(0, part, self.order.samples(part), last=False))

    def examples(self, name: str, count: int) -> Batch:
        """Return samples spread evenly over a split, the same on every rank."""
        total = len(self._readers[name])
        chosen = np.unique(np.linspace(0, total - 1, min(count, total)).round().astype(np.int64))
        return self._dataset(name).load(MicroBatchPlan(0, chosen, chosen, last=True))

    def _load(self, name: str, plan: Plan, *, training: bool = False) -> Iterator[Batch]:
        return load_batches(
            self._dataset(name, training=training),
            plan,
            num_workers=self.settings.num_workers,
            timeout_s=self._timeout_s,
            pin_memory=self._pin_memory,
        )

    def _dataset(self, name: str, *, training: bool = False) -> MicroBatchLoader:
        return MicroBatchLoader(
            self._readers[name],
            SampleDecoder(self.manifest),
            shape=self.manifest.values_shape,
            dtype=self.manifest.values_dtype,
            attributes=self.manifest.attributes,
            global_batch_size=self.settings.global_batch_size,
            skip_damaged=self.settings.on_error == "skip",
            augmentation=self._augmentation if training else None,
            previous=self._find_previous(name) if self._reads_previous else None,
            previous_noise=self._previous_noise if training else None,
            cache=self._caches.get(name),
        )

    def _find_previous(self, name: str) -> Indexes:
        """Return the previous slice of each sample of a split, which is found once.

        Raises:
            DataError: no sample of train has one.
        """
        if name not in self._previous:
            found = self._previous[name] = find_previous_samples(self._readers[name])
            if name == "train":
                count = int((found != NO_PREVIOUS).sum())
                if not count:
                    raise DataError.of(
                        f"{self.root}, train", *explain_no_previous(list_slice_names(self._readers[name]))
                    )
                print_message(f"model.context previous: {count:,} of {len(found):,} maps of train have a previous one")
        return self._previous[name]
