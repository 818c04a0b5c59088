"""Datasets for inference and evaluation: splits are read in batches that do not depend on the number of ranks."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vqdist.data.loading.batch import Batch
from vqdist.data.loading.micro_batch_loader import MicroBatchLoader
from vqdist.data.loading.pipeline import SampleDecoder
from vqdist.data.loading.plan import FixedBatchPlan, MicroBatchPlan
from vqdist.data.loading.workers import load_batches
from vqdist.data.open_dataset import Dataset
from vqdist.data.previous_slices import find_previous_samples, list_volumes
from vqdist.data.remote.download import is_url
from vqdist.data.remote.remote_dataset import DownloadGate
from vqdist.data.shards.reader import ShardReader, check_split
from vqdist.data.shards.tar_lists import names_tars
from vqdist.distributed.process_group import Ranks
from vqdist.foundation.errors import DataError

LOADER_WORKERS = 2
MIN_SAMPLES_FOR_WORKERS = 512  # of a rank in one pass; fewer are decoded in less time than the workers need to start
WORKER_TIMEOUT_S = 600.0

Numbers = npt.NDArray[np.int64]


def _build_gate(dataset: Dataset) -> DownloadGate | None:
    """Return what downloads the shards of a dataset at a URL; those of third-party datasets are in the cache."""
    if not is_url(dataset.path) or names_tars(dataset.path):
        return None
    return DownloadGate(str(dataset.path), dataset.folder, dataset.manifest)


class SplitLoader:
    """Loads the samples of one split: some of them, or all in batches.

    Args:
        reads_previous: load each map together with that of the previous slice.
        flag: the option that chooses the split, for the error; None if there is none.
    Raises:
        DataError: the dataset does not have the split, or the split has no samples.
    """

    def __init__(
        self,
        dataset: Dataset,
        split: str,
        *,
        batch_size: int,
        reads_previous: bool = False,
        flag: str | None = None,
    ) -> None:
        check_split(dataset.manifest, split, where=str(dataset.path), flag=flag)
        self.name, self.manifest, self.batch_size = split, dataset.manifest, batch_size
        self._reader = ShardReader(dataset.folder, self.manifest, split, gate=_build_gate(dataset))
        if not len(self._reader):
            raise DataError.of(str(dataset.path), f"no samples in {split}", "at least one")
        self._samples = MicroBatchLoader(
            self._reader,
            SampleDecoder(self.manifest),
            shape=self.manifest.values_shape,
            dtype=self.manifest.values_dtype,
            attributes=self.manifest.attributes,
            global_batch_size=len(self._reader),  # the positions of a batch are the numbers of its samples
            previous=find_previous_samples(self._reader) if reads_previous else None,
        )

    def __len__(self) -> int:
        return len(self._reader)

    def subjects(self) -> list[str]:
        """Return the subject of each sample; a sample without a subject counts as a subject of its own."""
        return [self._reader.subject(number) or self._reader.key(number) for number in range(len(self))]

    def key(self, number: int) -> str:
        """Return the key of a sample."""
        return self._reader.key(number)

    def read_info(self, number: int) -> dict[str, Any]:
        """Return the JSON of a sample."""
        return self._reader.read_info(number)

    def list_volumes(self) -> list[list[int]]:
        """Return the numbers of the slices of each volume, from the first slice on."""
        return list_volumes(find_previous_samples(self._reader))

    def load(self, numbers: Numbers) -> Batch:
        """Load samples by their numbers in the split."""
        return self._samples.load(MicroBatchPlan(0, numbers, numbers, last=True))

    def load_all(self, ranks: Ranks | None = None, *, within_shards: bool = False) -> Iterator[Batch]:
        """Yield the batches of this rank in a pass over the split; batch b goes to rank b % world_size.

        Args:
            ranks: None loads all batches in this process.
            within_shards: no batch has samples of two shards.
        """
        groups = self._reader.shard_sizes.tolist() if within_shards else [len(self)]
        return self.load_batches(group_in_batches(groups, self.batch_size), ranks)

    def load_batches(self, batches: Sequence[Numbers], ranks: Ranks | None = None) -> Iterator[Batch]:
        """Yield this rank's share of batches of given samples; batch b goes to rank b % world_size."""
        rank, world_size = (0, 1) if ranks is None else (ranks.rank, ranks.world_size)
        plan = FixedBatchPlan(batches, rank=rank, world_size=world_size)
        return load_batches(
            self._samples,
            plan,
            num_workers=LOADER_WORKERS if sum(map(len, plan.batches)) >= MIN_SAMPLES_FOR_WORKERS else 0,
            timeout_s=WORKER_TIMEOUT_S,
            pin_memory=ranks is not None and ranks.device.type == "cuda",
        )


def group_in_batches(group_sizes: Sequence[int], batch_size: int) -> list[Numbers]:
    """Return consecutive numbers from 0 in batches; a batch has numbers of one group only.

    Args:
        group_sizes: count of numbers in each group, in order.
    """
    ends = np.cumsum(group_sizes)
    return [
        np.arange(start, min(start + batch_size, end), dtype=np.int64)
        for end, size in zip(ends.tolist(), group_sizes, strict=True)
        for start in range(end - size, end, batch_size)
    ]
