"""Seeds derived from the run's seed and a purpose, so that no random state has to be saved."""

import hashlib


def derive_seed(seed: int, *parts: int | str) -> int:
    """Return a 63-bit seed for one draw of a run, equal on every machine and in every version of the package.

    Args:
        seed: the run's seed.
        parts: the purpose of the draw, for example ("restart", step). Where all ranks must draw the same, do not
            include the rank or the micro-batch.
    """
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in (seed, *parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1
