"""One way to make a seed: a stable hash of the run's seed and the purpose, so that no random state is ever saved."""

import hashlib


def derive_seed(seed: int, *parts: int | str) -> int:
    """Return a 63-bit seed for one draw of a run.

    The same arguments give the same seed on every machine and in every version of the package. A
    draw that must be equal on all ranks names neither rank nor micro-batch among its parts.

    Args:
        seed: the run's seed.
        parts: what the draw is for, for example ("restart", step).
    """
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in (seed, *parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1
