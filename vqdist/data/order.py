"""The order of the data, as a pure function: which sample stands at a position of the run.

A run is the concatenation of its epochs, each a permutation of all samples. Batch b of a run is positions
[b * G, (b + 1) * G) of it, G the global batch, and rank r of W takes positions r, r + W, ... of the batch.
So the whole state of the data is one number, the samples consumed; world size, micro-batch, workers and
restarts change nothing.

The permutation is a Feistel network on the smallest even number of bits that hold the size, walked until it
lands inside (cycle walking; Black and Rogaway 2002). It needs no table, so 10 million samples cost no
memory, and depends on no library's random numbers, so a run can be taken up years later.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from vqdist.foundation.seeds import derive_seed

Indexes = npt.NDArray[np.int64]

_ROUNDS = 6


def permute(index: Indexes, size: int, seed: int) -> Indexes:
    """Return where each index goes under the permutation of [0, size) that the seed names.

    Args:
        index: any shape, int64, in [0, size).
        size: number of things permuted, at least 1.
        seed: names the permutation.
    Returns:
        int64 of the same shape; a bijection of [0, size).
    """
    half_bits = max((int(size - 1).bit_length() + 1) // 2, 1)
    round_keys = [np.uint64(derive_seed(seed, "feistel", number)) for number in range(_ROUNDS)]
    value = _feistel(index.astype(np.uint64), half_bits, round_keys)
    while (outside := value >= size).any():
        value[outside] = _feistel(value[outside], half_bits, round_keys)
    return value.astype(np.int64)


def _feistel(value: npt.NDArray[np.uint64], half_bits: int, round_keys: Sequence[np.uint64]) -> npt.NDArray[np.uint64]:
    shift, mask = np.uint64(half_bits), np.uint64((1 << half_bits) - 1)
    left, right = value >> shift, value & mask
    for round_key in round_keys:
        left, right = right, left ^ (_mix(right ^ round_key) & mask)
    return (left << shift) | right


def _mix(value: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Scramble 64 bits (the finaliser of splitmix64, Steele et al. 2014)."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@dataclass(frozen=True)
class Epoch:
    """The windows of one epoch: its shards, permuted, and where the groups of window_shards begin."""

    shards: Indexes  # (S,) shard at each place of the epoch
    shard_starts: Indexes  # (S + 1,) samples of the epoch before that place
    window_starts: Indexes  # (V + 1,) samples of the epoch before each window


class Order:
    """Maps positions of a run to sample indexes.

    Args:
        shard_sizes: samples in each shard; sample indexes count through the shards in this order.
        kind: `windowed` permutes the shards, then the samples inside groups of window_shards shards, so
            that only those are read at a time; `full` permutes all samples.
        window_shards: shards in a group of the windowed order.
        seed: the run's seed.
    """

    def __init__(
        self, shard_sizes: Indexes, *, kind: Literal["windowed", "full"], window_shards: int, seed: int
    ) -> None:
        self.shard_sizes = np.asarray(shard_sizes, dtype=np.int64)
        self.kind = kind
        self.window_shards = window_shards
        self.seed = seed
        self.num_samples = int(self.shard_sizes.sum())
        self._first_index = np.concatenate([[0], np.cumsum(self.shard_sizes)])
        self._epochs: dict[int, Epoch] = {}

    def samples(self, positions: Indexes) -> Indexes:
        """Return the sample index at each position of the run.

        Args:
            positions: (n,) int64, at least 0; position p lies in epoch p // num_samples.
        Returns:
            (n,) int64 in [0, num_samples); every sample once per epoch.
        """
        positions = np.asarray(positions, dtype=np.int64)
        epochs = positions // self.num_samples
        result = np.empty_like(positions)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            result[here] = self._inside_epoch(int(epoch), positions[here] % self.num_samples)
        return result

    def shards_of_window(self, position: int) -> tuple[Indexes, int]:
        """Return the shards that the window at a position reads, and the position where that window ends."""
        epoch, inside = divmod(position, self.num_samples)
        layout = self._epoch(epoch)
        window = int(np.searchsorted(layout.window_starts, inside, side="right")) - 1
        first = window * self.window_shards
        end = epoch * self.num_samples + int(layout.window_starts[window + 1])
        return layout.shards[first : first + self.window_shards], end

    def _inside_epoch(self, epoch: int, inside: Indexes) -> Indexes:
        if self.kind == "full":
            return permute(inside, self.num_samples, derive_seed(self.seed, "order", epoch))
        layout = self._epoch(epoch)
        windows = np.searchsorted(layout.window_starts, inside, side="right") - 1
        permuted = np.empty_like(inside)
        for window in np.unique(windows):
            here = windows == window
            start, end = layout.window_starts[window], layout.window_starts[window + 1]
            seed = derive_seed(self.seed, "window", epoch, int(window))
            permuted[here] = start + permute(inside[here] - start, int(end - start), seed)
        place = np.searchsorted(layout.shard_starts, permuted, side="right") - 1
        return self._first_index[layout.shards[place]] + permuted - layout.shard_starts[place]

    def _epoch(self, epoch: int) -> Epoch:
        if epoch not in self._epochs:
            # A batch touches two epochs at most: older layouts are of no more use.
            self._epochs = {number: kept for number, kept in self._epochs.items() if abs(number - epoch) == 1}
            self._epochs[epoch] = self._build_epoch(epoch)
        return self._epochs[epoch]

    def _build_epoch(self, epoch: int) -> Epoch:
        occupied = np.flatnonzero(self.shard_sizes > 0)
        places = np.arange(len(occupied), dtype=np.int64)
        shards = occupied[permute(places, len(occupied), derive_seed(self.seed, "shards", epoch))]
        shard_starts = np.concatenate([[0], np.cumsum(self.shard_sizes[shards])])
        window_starts = np.append(shard_starts[:-1][:: self.window_shards], shard_starts[-1])
        return Epoch(shards, shard_starts, window_starts)


def rank_positions(batch: int, global_batch_size: int, rank: int, world_size: int) -> Indexes:
    """Return the positions of a global batch that one rank takes: rank, rank + world_size, ... of it.

    Args:
        batch: number of the global batch, from 0; step s of a run trains on batch s - 1.
    Returns:
        (n,) int64; the shares of the ranks differ by at most one.
    """
    start = batch * global_batch_size
    return np.arange(start + rank, start + global_batch_size, world_size, dtype=np.int64)
