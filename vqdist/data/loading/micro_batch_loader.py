"""Loading of one micro-batch: its samples are read, verified and decoded."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from vqdist.config.attributes import Attributes
from vqdist.data.augmentation import Augmentation, Change
from vqdist.data.loading.batch import NO_NUMBER, Batch, SampleInfo
from vqdist.data.loading.plan import MicroBatchPlan
from vqdist.data.loading.sample_cache import SampleCache
from vqdist.data.loading.shared_memory import Array
from vqdist.data.order import Indexes
from vqdist.data.previous_noise import PreviousNoise
from vqdist.data.previous_slices import NO_PREVIOUS
from vqdist.data.shards.reader import ShardReader
from vqdist.foundation.errors import DamagedDataError
from vqdist.models.map_conditions import NO_CODE, MapConditions

_BLANK = SampleInfo("", 0, 0)


@dataclass(frozen=True)
class LoadedMicroBatch:
    """A loaded micro-batch without its values, which are in an array beside it.

    Attributes:
        infos: of each sample that is not damaged.
        positions: position of each of these samples in the global batch.
        skipped: a message for each damaged sample.
        has_previous: whether each sample is loaded with the previous map, as (2, h, w).
        attributes: names of the attributes of each sample.
    """

    step: int
    last: bool
    infos: list[SampleInfo]
    positions: list[int]
    skipped: list[str]
    has_previous: bool = False
    attributes: tuple[str, ...] = ()

    @property
    def num_rows(self) -> int:
        """Rows of values; one blank row if every sample is damaged."""
        return max(len(self.infos), 1)

    def to_batch(self, values: Array, *, pin_memory: bool = False) -> Batch:
        """Build the batch; `values`, (num_rows, ...), are copied."""
        copied = _copy(values[:, 0] if self.has_previous else values, pin_memory)
        previous = _copy(values[:, 1], pin_memory) if self.has_previous else None
        infos = self.infos or [_BLANK._replace(attributes=(math.nan,) * len(self.attributes))]
        return Batch(
            self.step,
            self.last,
            values=copied,
            conditions=MapConditions(
                label=_column([info.label for info in infos], pin_memory),
                slice=_column([info.slice for info in infos], pin_memory),
                previous=previous,
                attributes={
                    name: _column([info.attributes[place] for info in infos], pin_memory)
                    for place, name in enumerate(self.attributes)
                },
            ),
            positions=_column(self.positions or [NO_NUMBER], pin_memory),
            weights=_column([float(bool(self.infos))] * len(infos), pin_memory),
            keys=[info.key for info in self.infos],
            skipped=self.skipped,
        )


def _copy(values: Array, pin_memory: bool) -> torch.Tensor:
    dtype = torch.uint8 if values.dtype == np.uint8 else torch.int64
    copied = torch.empty(values.shape, dtype=dtype, pin_memory=pin_memory)
    np.copyto(copied.numpy(), values)
    return copied


def _column(numbers: list[int] | list[float], pin_memory: bool) -> torch.Tensor:
    column = torch.tensor(numbers)
    return column.pin_memory() if pin_memory else column


class MicroBatchLoader:
    """Loads one micro-batch at a time.

    Args:
        reader: verified access to the samples of a split.
        decode: (sample) -> (C, H, W) uint8 image or (h, w) codes.
        shape: shape of a decoded sample.
        dtype: type in which values are stored: uint8 for images, int32 for codes.
        global_batch_size: positions of the run, modulo this, are positions in a global batch.
        skip_damaged: leave damaged samples out and report them, instead of raising.
        augmentation: of the images; None: load them as they are.
        previous: index of the previous slice of each sample, NO_PREVIOUS for none: its map is loaded beside that of the
            sample. None: load the samples alone.
        previous_noise: changes of the previous maps; None: load them as they are.
        cache: decoded samples; None: decode every time.
        attributes: of the dataset, to load with each sample.
    """

    def __init__(
        self,
        reader: ShardReader,
        decode: Callable[[dict[str, Any]], Array],
        *,
        shape: tuple[int, ...],
        dtype: npt.DTypeLike,
        global_batch_size: int,
        skip_damaged: bool = False,
        augmentation: Augmentation | None = None,
        previous: Indexes | None = None,
        previous_noise: PreviousNoise | None = None,
        cache: SampleCache | None = None,
        attributes: Attributes | None = None,
    ) -> None:
        self.reader = reader
        self.decode = decode
        self.shape, self.dtype = shape, np.dtype(dtype)
        self.global_batch_size = global_batch_size
        self.skip_damaged = skip_damaged
        self.augmentation = augmentation
        self.previous, self.previous_noise = previous, previous_noise
        self.cache = cache
        self.attributes = dict(attributes or {})

    @property
    def loaded_shape(self) -> tuple[int, ...]:
        """Shape of a loaded sample, with augmentation; of a pair of maps, the sample's first."""
        shape = self.shape if self.augmentation is None else self.augmentation.shape(self.shape)
        return shape if self.previous is None else (2, *shape)

    def is_cached(self) -> bool:
        """Whether every sample is in the cache."""
        return self.cache is not None and self.cache.is_complete()

    def load(self, plan: MicroBatchPlan, *, pin_memory: bool = False) -> Batch:
        """Load a micro-batch in this process."""
        values = np.empty((max(len(plan.samples), 1), *self.loaded_shape), self.dtype)
        loaded = self.load_into(plan, values)
        return loaded.to_batch(values[: loaded.num_rows], pin_memory=pin_memory)

    def load_into(self, plan: MicroBatchPlan, values: Array) -> LoadedMicroBatch:
        """Load a micro-batch; its values are written to the first rows of an array.

        Raises:
            DamagedDataError: a sample differs from its index, and skip_damaged is not set.
        """
        positions = (plan.positions % self.global_batch_size).tolist()
        changes = None
        if self.augmentation is not None:
            changes = self.augmentation.draw(plan.step, positions, self.shape)
        is_alone, names = self.previous is None, tuple(self.attributes)
        if self.cache is not None and is_alone:
            infos = self.cache.take(plan.samples, values, changes)
            if infos is not None:
                return LoadedMicroBatch(plan.step, plan.last, infos, positions, [], attributes=names)
        loaded = LoadedMicroBatch(plan.step, plan.last, [], [], [], not is_alone, names)
        for number, (position, index) in enumerate(zip(positions, plan.samples.tolist(), strict=True)):
            change = None if changes is None else changes[number]
            out = values[len(loaded.infos)]
            try:
                if is_alone:
                    loaded.infos.append(self._load_sample(index, change, out[None]))
                else:
                    loaded.infos.append(self._load_pair(index, plan.step, position, out))
            except DamagedDataError as error:
                if not self.skip_damaged:
                    raise
                loaded.skipped.append(str(error))
            else:
                loaded.positions.append(position)
        if not loaded.infos:
            values[0] = 0
        return loaded

    def _load_pair(self, index: int, step: int, position: int, out: Array) -> SampleInfo:
        """Load a map and the previous one into `out`, (2, h, w)."""
        assert self.previous is not None
        if (before := int(self.previous[index])) == NO_PREVIOUS:
            out[1] = NO_CODE
        else:
            self._load_sample(before, None, out[1:])
        if self.previous_noise is not None:
            out[1] = self.previous_noise.apply(out[1], step, position)
        return self._load_sample(index, None, out[:1])

    def _load_sample(self, index: int, change: Change | None, out: Array) -> SampleInfo:
        one = None if change is None else [change]
        if self.cache is not None and (found := self.cache.take([index], out, one)) is not None:
            return found[0]
        sample = self.reader.read(index)
        decoded = self.decode(sample).astype(self.dtype, copy=False)
        out[0] = change.apply(decoded) if change else decoded
        fields = sample["json"]
        numbers = (_to_number(fields.get("label")), _to_number(fields.get("slice")))
        given = fields.get("attributes") or {}
        values = (attribute.encode(given.get(name)) for name, attribute in self.attributes.items())
        info = SampleInfo(sample["__key__"], *numbers, tuple(values))
        if self.cache is not None:
            self.cache.put(index, decoded, info)
        return info


def _to_number(value: int | None) -> int:
    return NO_NUMBER if value is None else value
