"""The order of the samples: each one once per epoch, for any sequence of world sizes, kills and resumes.

The long version, `pytest -m long tests/data/test_order.py`, tries 20,000 histories.
"""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vqdist.data.order import Order, permute, rank_positions

KINDS = ("windowed", "full")
GOLDEN_WINDOWED = np.array(
    [[4, 0, 21, 20, 19, 3, 2, 1, 8, 16, 13, 5, 9, 10, 17], [18, 15, 7, 6, 14, 11, 12, 16, 13, 12, 18, 15, 0, 17, 4]]
)
GOLDEN_FULL = np.array(
    [[0, 10, 6, 17, 15, 13, 20, 2, 8, 5, 4, 14, 7, 9, 18], [3, 21, 12, 11, 1, 19, 16, 20, 9, 21, 15, 10, 7, 13, 8]]
)
WORLDS = st.one_of(st.integers(1, 8), st.integers(1, 1024), st.sampled_from((7, 64, 1023, 1024)))
# Mostly small, because the time of an example is proportional to its samples.
BATCH_SIZES = st.one_of(*[st.integers(1, 64)] * 3, st.integers(1, 2048))
# (world size, steps, whether it ends with a kill, steps between the last checkpoint and the kill)
Attempt = tuple[int, int, bool, int]
ATTEMPTS = st.lists(st.tuples(WORLDS, st.integers(0, 8), st.booleans(), st.integers(0, 8)), min_size=1, max_size=12)


@st.composite
def orders(draw: st.DrawFn) -> Order:
    """Draw an order of 1 to 10 million samples in shards of any sizes, some of them empty."""
    samples = int(10 ** draw(st.floats(0, 7)))
    shards = draw(st.integers(1, min(samples, 40_000)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    if draw(st.booleans()):
        sizes = np.full(shards, samples // shards)
        sizes[-1] += samples - sizes.sum()
    else:
        sizes = rng.multinomial(samples, rng.dirichlet(np.ones(shards)))
    window = draw(st.integers(1, 64))
    return Order(sizes, kind=draw(st.sampled_from(KINDS)), window_shards=window, seed=draw(st.integers(0, 2**62)))


def run_attempts(attempts: list[Attempt], first: int, batch_size: int) -> dict[int, list[np.ndarray]]:
    """Return the positions of each rank in each step, as the ledgers record them after the last attempt."""
    ledger: dict[int, list[np.ndarray]] = {}
    step = first
    for world_size, steps, killed, lost in attempts:
        start, world_size = step, min(world_size, batch_size)
        for step in range(start, start + steps):
            ledger[step] = [rank_positions(step, batch_size, rank, world_size) for rank in range(world_size)]
        step = start + steps
        if killed:
            step = max(step - lost, first)
            ledger = {number: shares for number, shares in ledger.items() if number < step}
    return ledger


def check_history(order: Order, attempts: list[Attempt], batch_size: int, first: int) -> None:
    batch_size = min(batch_size, order.num_samples)
    ledger = run_attempts(attempts, first, batch_size)
    assert list(ledger) == list(range(first, first + len(ledger)))
    for shares in ledger.values():
        sizes = [len(share) for share in shares]
        assert max(sizes) - min(sizes) <= 1
        assert min(sizes) >= 1
    positions = np.concatenate([share for shares in ledger.values() for share in shares] or [np.empty(0, np.int64)])
    samples = order.samples(positions)
    # Every position once.
    along = np.argsort(positions)
    assert np.array_equal(positions[along], first * batch_size + np.arange(len(ledger) * batch_size))
    # No sample twice in an epoch, and every sample in a complete epoch.
    epochs = positions // order.num_samples
    for epoch in np.unique(epochs):
        seen = samples[epochs == epoch]
        assert len(np.unique(seen)) == len(seen)
        assert seen.min() >= 0
        assert seen.max() < order.num_samples
        if len(seen) == order.num_samples:
            assert np.array_equal(np.sort(seen), np.arange(order.num_samples))


def try_histories(examples: int) -> int:
    """Check random histories, most of which start shortly before the end of an epoch; return their number."""
    tried = []

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(orders(), ATTEMPTS, BATCH_SIZES, st.integers(0, 3), st.integers(0, 8))
    def check(order: Order, attempts: list[Attempt], batch_size: int, epoch: int, back: int) -> None:
        first = max(epoch * order.num_samples // min(batch_size, order.num_samples) - back, 0)
        check_history(order, attempts, batch_size, first)
        tried.append(order.num_samples)

    check()
    assert max(tried) > 5_000_000
    return len(tried)


def test_any_history_trains_each_sample_once() -> None:
    assert try_histories(300) >= 300


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_any_of_20_000_histories_trains_each_sample_once() -> None:
    assert try_histories(20_000) >= 20_000


@pytest.mark.parametrize(
    ("kind", "samples"),
    [("windowed", 2_000_000), ("full", 10_000_000), pytest.param("windowed", 10_000_000, marks=pytest.mark.long)],
)
def test_an_epoch_of_many_samples_is_a_permutation(kind: str, samples: int) -> None:
    sizes = np.full(-(-samples // 256), 256)
    sizes[-1] = samples - sizes[:-1].sum()
    order = Order(sizes, kind=kind, window_shards=8, seed=3)
    seen = np.zeros(order.num_samples, bool)
    for start in range(0, order.num_samples, 100_000):
        seen[order.samples(np.arange(start, start + 100_000) + 2 * order.num_samples)] = True
    assert seen.all()


@settings(max_examples=300, deadline=None, database=None)
@given(st.integers(1, 5000), st.integers(0, 2**62))
def test_permute_is_a_bijection(size: int, seed: int) -> None:
    permuted = permute(np.arange(size), size, seed)
    assert np.array_equal(np.sort(permuted), np.arange(size))


def test_the_order_never_changes() -> None:
    """A run must be resumable with any later version, so these numbers stay."""
    sizes = np.array([5, 0, 7, 7, 3])
    windowed = Order(sizes, kind="windowed", window_shards=2, seed=1).samples(np.arange(30))
    full = Order(sizes, kind="full", window_shards=2, seed=1).samples(np.arange(30))
    assert windowed.tolist() == GOLDEN_WINDOWED.flatten().tolist()
    assert full.tolist() == GOLDEN_FULL.flatten().tolist()


def test_epochs_and_seeds_differ() -> None:
    for kind in KINDS:
        order, other = (Order(np.full(10, 50), kind=kind, window_shards=3, seed=seed) for seed in (0, 1))
        first, second = order.samples(np.arange(500)), order.samples(np.arange(500, 1000))
        assert (first == second).mean() < 0.05
        assert (first == other.samples(np.arange(500))).mean() < 0.05


@pytest.mark.parametrize("window_shards", [1, 3, 100])
def test_a_window_reads_its_own_shards_only(window_shards: int) -> None:
    sizes = np.array([3, 0, 9, 4, 1, 6, 6, 2])
    order = Order(sizes, kind="windowed", window_shards=window_shards, seed=5)
    shard_of = np.repeat(np.arange(len(sizes)), sizes)
    position = 0
    while position < 3 * order.num_samples:
        shards, end = order.shards_of_window(position)
        assert len(shards) <= window_shards
        assert set(shard_of[order.samples(np.arange(position, end))]) == set(shards.tolist())
        position = end
    assert position == 3 * order.num_samples
