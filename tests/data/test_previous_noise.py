"""Changes of the previous maps in training."""

import numpy as np

from vqdist.data.previous_noise import PreviousNoise, find_similar_codes
from vqdist.data.previous_slices import NO_PREVIOUS

CODES = np.arange(64, dtype=np.int32).reshape(8, 8) % 16
SIMILAR = find_similar_codes(np.arange(16, dtype=np.float32)[:, None] ** 2)


def test_similar_codes_are_the_nearest_of_the_codebook() -> None:
    assert SIMILAR.shape == (16, 8)
    assert SIMILAR[0].tolist() == list(range(1, 9))
    assert SIMILAR[15, :2].tolist() == [14, 13]
    assert find_similar_codes(np.zeros((3, 2), np.float32)).shape == (3, 2)


def test_replaced_codes_are_similar_and_their_share_is_uniform() -> None:
    noise = PreviousNoise(SIMILAR, dropout=0.0, noise=0.4, seed=1)
    maps = np.stack([noise.apply(CODES, 1, position) for position in range(2000)])
    changed = maps != CODES
    rows = np.broadcast_to(CODES, maps.shape)[changed]
    assert (SIMILAR[rows] == maps[changed][:, None]).any(axis=1).all()
    shares = changed.mean(axis=(1, 2))
    assert abs(shares.mean() - 0.2) < 0.01
    assert abs(shares.std() - (0.4**2 / 12 + (0.2 - 0.16 / 3) / 64) ** 0.5) < 0.01  # of the share, and binomial
    assert shares.max() < 0.65


def test_the_share_without_a_previous_map() -> None:
    noise = PreviousNoise(SIMILAR, dropout=0.3, noise=0.0, seed=1)
    maps = np.stack([noise.apply(CODES, 1, position) for position in range(2000)])
    missing = (maps == NO_PREVIOUS).all(axis=(1, 2))
    assert abs(missing.mean() - 0.3) < 0.03
    assert (maps[~missing] == CODES).all()
    assert maps.dtype == CODES.dtype


def test_a_change_depends_on_seed_step_and_position_only() -> None:
    def draw(seed: int, step: int, position: int) -> list[int]:
        return PreviousNoise(SIMILAR, 0.0, 1.0, seed).apply(CODES, step, position).ravel().tolist()

    assert draw(1, 2, 3) == draw(1, 2, 3)
    assert len({tuple(draw(*where)) for where in ((1, 2, 3), (0, 2, 3), (1, 0, 3), (1, 2, 0))}) == 4


def test_a_map_without_a_previous_one_stays_so() -> None:
    none = np.full((8, 8), NO_PREVIOUS, np.int32)
    assert (PreviousNoise(SIMILAR, 0.0, 1.0, 0).apply(none, 1, 1) == NO_PREVIOUS).all()
