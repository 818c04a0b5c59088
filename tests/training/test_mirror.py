"""Mirrored images: half of them, other ones at each step, the same on any number of ranks."""

import torch

from vqdist.data.loader import Batch
from vqdist.training.mirror import mirror_half

GLOBAL_BATCH = 64


def make_batch(rank: int = 0, world: int = 1) -> Batch:
    """Return a rank's share of a global batch of images that are dark on the left."""
    positions = torch.arange(rank, GLOBAL_BATCH, world)
    values = torch.zeros(len(positions), 1, 4, 4, dtype=torch.uint8)
    values[..., 2:] = 200
    nothing = torch.full_like(positions, -1)
    return Batch(1, True, values, nothing, nothing, positions, [f"k{place}" for place in positions.tolist()])


def find_mirrored(batch: Batch, *, seed: int = 0, step: int = 1) -> list[bool]:
    seen = mirror_half(batch, seed=seed, step=step, global_batch_size=GLOBAL_BATCH).values
    mirrored = seen[:, 0, 0, 0] == 200
    expected = torch.where(mirrored.view(-1, 1, 1, 1), batch.values.flip(3), batch.values)
    assert torch.equal(seen, expected)
    return mirrored.tolist()


def test_half_of_the_images_at_each_step_others() -> None:
    draws = [find_mirrored(make_batch(), step=step) for step in range(1, 21)]
    shares = [sum(draw) / GLOBAL_BATCH for draw in draws]
    assert 0.45 < sum(shares) / len(shares) < 0.55
    assert len(set(map(tuple, draws))) == 20
    assert draws[0] == find_mirrored(make_batch())
    assert draws[0] != find_mirrored(make_batch(), seed=1)


def test_the_ranks_change_nothing() -> None:
    alone = find_mirrored(make_batch())
    for world in (2, 3):
        for rank in range(world):
            assert find_mirrored(make_batch(rank, world)) == alone[rank::world]
