"""The order of the training samples: a pure function from a position in the run to a sample.

A run is the concatenation of its epochs, each a permutation of all samples. With a global batch of G samples, batch
b is positions [b * G, (b + 1) * G), and rank r of W takes positions r, r + W, ... of the batch. The number of
samples consumed is the whole state: world size, micro-batches, workers and restarts do not change the order.

The permutation is a Feistel network on the smallest even number of bits that can represent the size, applied
repeatedly until the result is below the size (cycle walking; Black and Rogaway 2002, "Ciphers with Arbitrary Finite
Domains"). It needs no table, so 10 million samples take no memory, and it uses no library's random numbers, so
a run can be resumed with any later version.
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
    """Apply a pseudorandom permutation of [0, size) to indexes.

    Args:
        index: int64 in [0, size), any shape.
        size: at least 1.
        seed: selects the permutation.
    Returns:
        int64 in [0, size), same shape.
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
    """Mix 64 bits (the finaliser of splitmix64; Steele et al. 2014)."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@dataclass(frozen=True)
class Epoch:
    """The permuted shards of one epoch and its windows of window_shards shards.

    Attributes:
        shards: (S,) shards in the order of the epoch.
        shard_starts: (S + 1,) samples of the epoch before each of them.
        window_starts: (V + 1,) samples of the epoch before each window.
    """

    shards: Indexes
    shard_starts: Indexes
    window_starts: Indexes


class Order:
    """Maps positions in a run to sample indexes.

    Args:
        shard_sizes: number of samples in each shard; sample indexes count through the shards in this order.
        kind: "windowed" permutes the shards, and then the samples within windows of window_shards shards, so that
            only these shards are read at a time; "full" permutes all samples.
        window_shards: shards per window of the windowed order.
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
        """Return the sample index at each position.

        Args:
            positions: (n,) int64, at least 0; position p is in epoch p // num_samples.
        Returns:
            (n,) int64 in [0, num_samples). Each epoch contains every sample once.
        """
        positions = np.asarray(positions, dtype=np.int64)
        epochs = positions // self.num_samples
        result = np.empty_like(positions)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            result[here] = self._inside_epoch(int(epoch), positions[here] % self.num_samples)
        return result

    def shards_of_window(self, position: int) -> tuple[Indexes, int]:
        """Return the shards of the window at a position, and the position at which the window ends."""
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
            # A batch spans at most two epochs, so only the neighbouring one is kept.
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
    """Return one rank's positions in a global batch: rank, rank + world_size, ... .

    Args:
        batch: number of the global batch, from 0; step s trains on batch s - 1.
    Returns:
        (n,) int64; the numbers of samples per rank differ by at most one.
    """
    start = batch * global_batch_size
    return np.arange(start + rank, start + global_batch_size, world_size, dtype=np.int64)
