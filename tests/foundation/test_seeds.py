"""Seeds: never change, and differ in every part."""

from vqdist.foundation.seeds import derive_seed


def test_seeds_never_change() -> None:
    """A run must be resumable with any later version, so these numbers stay."""
    assert derive_seed(0, "restart", 5) == 5695053263226617116
    assert derive_seed(1) == 4975126967219208026


def test_every_part_and_its_type_matters() -> None:
    parts = [(0, "a", 1), (0, "a", "1"), (0, "a1"), (0, "a", 1, 0), (1, "a", 1), (0, 1, "a"), (0,)]
    seeds = {derive_seed(*part) for part in parts}
    assert len(seeds) == len(parts)
    assert all(0 <= seed < 2**63 for seed in seeds)
