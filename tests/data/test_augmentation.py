"""Augmentation: other draws at each step, the same for any number of ranks, and crops inside the image."""

import numpy as np
import pytest
import torch

from vqdist.config.schema import DataSection
from vqdist.data.augmentation import Augmentation, mirror_images

GLOBAL_BATCH = 64
HEIGHT, WIDTH = 6, 10
# The value of a pixel is its index in the image.
IMAGE = np.arange(HEIGHT * WIDTH, dtype=np.uint8).reshape(1, HEIGHT, WIDTH).repeat(2, axis=0)


def find_draws(
    rank: int = 0, world_size: int = 1, *, seed: int = 0, step: int = 1, **keys: object
) -> list[tuple[str, int, int]]:
    """Return the mirroring and the corner of the crop of each image of a rank, read from the changed images."""
    augmentation = Augmentation.from_settings(DataSection(global_batch_size=GLOBAL_BATCH, **keys), seed=seed)
    assert augmentation is not None
    found = []
    for change in augmentation.draw(step, range(rank, GLOBAL_BATCH, world_size), IMAGE.shape):
        image = torch.from_numpy(change.apply(IMAGE).copy())
        assert image.shape == augmentation.shape(IMAGE.shape)
        down, right = int(image[0, -1, 0]) - int(image[0, 0, 0]), int(image[0, 0, -1]) - int(image[0, 0, 0])
        mirror = "up-down" if down < 0 else "left-right" if right < 0 else "none"
        upright = mirror_images(image, mirror)
        y, x = divmod(int(upright[0, 0, 0]), WIDTH)
        height, width = image.shape[-2:]
        assert np.array_equal(upright.numpy(), IMAGE[:, y : y + height, x : x + width])
        found.append((mirror, y, x))
    return found


@pytest.mark.parametrize("mirror", ["up-down", "left-right"])
def test_half_of_the_images_are_mirrored_and_others_at_each_step(mirror: str) -> None:
    draws = [find_draws(step=step, mirror=mirror) for step in range(1, 21)]
    mirrored = [image[0] == mirror for draw in draws for image in draw]
    assert {image[0] for draw in draws for image in draw} == {"none", mirror}
    assert 0.45 < sum(mirrored) / len(mirrored) < 0.55
    assert len(set(map(tuple, draws))) == 20
    assert draws[0] == find_draws(mirror=mirror)
    assert draws[0] != find_draws(mirror=mirror, seed=1)
    assert {image[1:] for draw in draws for image in draw} == {(0, 0)}


def test_crops_cover_the_image() -> None:
    corners = [corner for step in range(20) for _, *corner in find_draws(step=step, crop=4)]
    counts = {place: corners.count(list(place)) for place in map(tuple, corners)}
    assert set(counts) == {(y, x) for y in range(3) for x in range(7)}
    assert min(counts.values()) > len(corners) / 21 / 2
    assert {tuple(corner) for _, *corner in find_draws(crop=6)} <= {(0, x) for x in range(5)}


def test_draws_are_those_of_runs_of_earlier_versions() -> None:
    """A resumed run must train on the images that the uninterrupted one trains on."""
    augmentation = Augmentation("up-down", 4, GLOBAL_BATCH, seed=3)
    changes = augmentation.draw(7, [0, 2, 3], IMAGE.shape)
    kept = [(1, 6, "none"), (2, 3, "up-down"), (1, 5, "none")]
    assert [(change.y, change.x, change.mirror) for change in changes] == kept


@pytest.mark.parametrize("world_size", [2, 3])
def test_the_number_of_ranks_changes_nothing(world_size: int) -> None:
    alone = find_draws(mirror="up-down", crop=4)
    for rank in range(world_size):
        assert find_draws(rank, world_size, mirror="up-down", crop=4) == alone[rank::world_size]


def test_only_the_pixels_of_the_crop_are_copied() -> None:
    (change,) = Augmentation("left-right", 4, GLOBAL_BATCH, seed=0).draw(1, [0], IMAGE.shape)
    assert change.apply(IMAGE).base is not None, "a view"
    assert Augmentation.from_settings(DataSection(), seed=0) is None
