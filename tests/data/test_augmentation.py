"""Augmentation: other draws at each step, the same for any number of ranks, and crops inside the image."""

import pytest
import torch

from vqdist.config.schema import DataSection
from vqdist.data.augmentation import augment, mirror_images
from vqdist.data.loading.batch import Batch

GLOBAL_BATCH = 64
HEIGHT, WIDTH = 6, 10


def make_batch(rank: int = 0, world_size: int = 1) -> Batch:
    """Return a rank's share of a global batch; the value of a pixel is its index in the image."""
    positions = torch.arange(rank, GLOBAL_BATCH, world_size)
    image = torch.arange(HEIGHT * WIDTH, dtype=torch.uint8).view(1, 1, HEIGHT, WIDTH)
    values = image.expand(len(positions), 2, HEIGHT, WIDTH).clone()
    nothing = torch.full_like(positions, -1)
    keys = [f"k{place}" for place in positions.tolist()]
    return Batch(1, True, values, nothing, nothing, positions, torch.ones(len(positions)), keys)


def find_draws(batch: Batch, *, seed: int = 0, step: int = 1, **keys: object) -> list[tuple[str, int, int]]:
    """Return the mirroring and the corner of the crop of each image."""
    data = DataSection(global_batch_size=GLOBAL_BATCH, **keys)
    found = []
    for image in augment(batch, data, seed=seed, step=step).values:
        down, right = int(image[0, -1, 0]) - int(image[0, 0, 0]), int(image[0, 0, -1]) - int(image[0, 0, 0])
        mirror = "up-down" if down < 0 else "left-right" if right < 0 else "none"
        upright = mirror_images(image, mirror)
        y, x = divmod(int(upright[0, 0, 0]), WIDTH)
        height, width = image.shape[-2:]
        assert torch.equal(upright, batch.values[0, :, y : y + height, x : x + width])
        found.append((mirror, y, x))
    return found


@pytest.mark.parametrize("mirror", ["up-down", "left-right"])
def test_half_of_the_images_are_mirrored_and_others_at_each_step(mirror: str) -> None:
    draws = [find_draws(make_batch(), step=step, mirror=mirror) for step in range(1, 21)]
    mirrored = [image[0] == mirror for draw in draws for image in draw]
    assert {image[0] for draw in draws for image in draw} == {"none", mirror}
    assert 0.45 < sum(mirrored) / len(mirrored) < 0.55
    assert len(set(map(tuple, draws))) == 20
    assert draws[0] == find_draws(make_batch(), mirror=mirror)
    assert draws[0] != find_draws(make_batch(), mirror=mirror, seed=1)
    assert {image[1:] for draw in draws for image in draw} == {(0, 0)}


def test_crops_cover_the_image() -> None:
    corners = [corner for step in range(20) for _, *corner in find_draws(make_batch(), step=step, crop=4)]
    counts = {place: corners.count(list(place)) for place in map(tuple, corners)}
    assert set(counts) == {(y, x) for y in range(3) for x in range(7)}
    assert min(counts.values()) > len(corners) / 21 / 2
    assert {tuple(corner) for _, *corner in find_draws(make_batch(), crop=6)} <= {(0, x) for x in range(5)}


@pytest.mark.parametrize("world_size", [2, 3])
def test_the_number_of_ranks_changes_nothing(world_size: int) -> None:
    alone = find_draws(make_batch(), mirror="up-down", crop=4)
    for rank in range(world_size):
        assert find_draws(make_batch(rank, world_size), mirror="up-down", crop=4) == alone[rank::world_size]
